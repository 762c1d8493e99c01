"""The transfer layer: missing objects come from a peer, and nothing becomes visible before it was checked.

``fetch`` brings objects, ``connectivity`` tells what is missing and secures what no ref holds, ``hold`` protects packs
until the refs have moved, ``maintenance`` keeps the number of packs small. dulwich speaks on the wire and applies deltas (only
``wire`` and ``packfile`` import it). git writes to the disk; for ``small`` packs, for which its start is most of the time, it is
done here.
"""
