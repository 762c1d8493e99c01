"""One fetch from one peer: no object becomes visible before its hash and its whole closure have been checked.

``fetch`` does all of it. ``dulwich_fetch`` speaks with the peer (``git_fetch`` where dulwich cannot), ``index_pack`` or
``small_pack`` stores the pack in a ``quarantine``, ``connectivity`` checks closures, and ``keep_files`` protects published packs
until the refs have moved. ``maintenance`` keeps the number of packs small. The layer knows no etcd and moves no ref.
"""
