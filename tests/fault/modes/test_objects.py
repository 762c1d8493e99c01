"""Objects on their way: no ref is seen before what it needs, whoever sends it and whatever happens to it here."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from piehole.errors import PieholeError
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.pushes import catching_up, records
from tests.support.sites import Site
from tests.support.wait import PATIENCE, meanwhile, until
from tests.transfer.liar import Talk, falls_silent_in_the_pack, lying_peer, sends_for_ever, sends_pack
from tests.transfer.test_lying_peers import closure, pack_of


def is_whole(repository: Path, *tips: str) -> bool:
    return git.git(repository, "rev-list", "--objects", "--quiet", *tips, check=False).returncode == 0


def test_ref_before_objects(make_group: MakeGroup) -> None:
    """A tip whose closure is missing is here, and no ref moves to it; nor is a ref ever seen before the rest of its objects."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    b.pause()
    second = git.commit(work, "second", content="x" * 100_000)
    accepted(git.push(work, a.repository, "HEAD:main", *(f"HEAD:copy{n}" for n in range(10))))
    # As an interrupted fetch leaves it: the commit alone.
    raw = git.git(work, "cat-file", "commit", second).stdout
    assert git.git(b.repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw).stdout.strip() == second
    away = a.root / "away"
    a.kill()
    a.repository.rename(away)
    b.resume()
    b.stuck("refs/heads/copy0")
    assert b.refs() == {MAIN: first}
    away.rename(a.repository)
    a.start()

    def seen() -> bool:
        refs = b.refs()
        assert is_whole(b.repository, *refs.values())
        return len(refs) == 11

    until(seen, PATIENCE, "everything has come")
    b.fsck()


def test_prune_race(make_group: MakeGroup, tmp_path: Path) -> None:
    """Objects that no ref holds, and a prune between the connectivity check and the ref's move: the worst moment of all."""
    group = make_group(2, started=False)
    a, b = group
    a.start()
    # A prune that has listed what no ref holds before the move, and deletes it after that; and a repack in between.
    races = f"""
doomed=$("$git" --git-dir={b.repository} prune -n --expire=now </dev/null | grep -v ^rm | cut -d' ' -f1)
"$git" --git-dir={b.repository} repack -adq </dev/null
"$git" "$@"; status=$?
for oid in $doomed; do
    rm -f {b.repository}/objects/$(echo $oid | cut -c1-2)/$(echo $oid | cut -c3-)
done
[ -z "$doomed" ] || touch $seen
exit $status"""
    with group.git_that(tmp_path / "bin", "update-ref", races) as pruned:
        b.start()
    work, first = group.begun()
    assert not pruned.exists()
    second = git.commit(work, "second")
    # Everything that B needs is there already, loose and held by nothing.
    git.git(b.repository, "-c", "fetch.unpackLimit=1000", "fetch", "-q", str(work), second)
    accepted(git.push(work, a.repository, "HEAD:main"))
    group.arrives(MAIN, second, timeout=PATIENCE)
    until(pruned.exists, PATIENCE, "objects were pruned, else this shows nothing")
    assert is_whole(b.repository, second)
    b.fsck()
    until(lambda: not list((b.repository / "objects" / "pack").glob("*.keep")), PATIENCE, "nothing is kept any more")
    assert git.rev_parse(b.repository, f"{MAIN}~1") == first


def test_maintenance_is_not_deletion(make_group: MakeGroup) -> None:
    """gc, pack-refs, repack and maintenance at both sites, in the middle of pushes: nothing is deleted, every push goes through."""
    group = make_group(2)
    work, first = group.begun("a", "b/c", "refs/tags/v1")

    def maintain() -> None:
        for site in group:
            for arguments in (
                ("pack-refs", "--all", "--prune"),
                ("gc", "--quiet"),
                ("repack", "-adq"),
                ("maintenance", "run", "--task=gc", "--quiet"),
            ):
                # A push may hold a lock, or delete what was just listed; then maintenance says so and ends.
                git.git(site.repository, *arguments, check=False)

    before = group.etcd.look_prefix(group.key("refs/"))
    maintain()
    assert group.etcd.look_prefix(group.key("refs/")) == before
    tips = [first]
    with meanwhile(maintain):
        for number in range(6):
            tips.append(git.commit(work, str(number)))
            accepted(git.push(work, group[number % 2].repository, "HEAD:main"))
            group.arrives(MAIN, tips[-1], timeout=PATIENCE)
    assert group.history() == tips
    refs = {"refs/heads/a": first, "refs/heads/b/c": first, "refs/tags/v1": first, MAIN: tips[-1]}
    assert group.in_step() == refs
    for site in group:
        site.fsck()
    accepted(git.push(work, group[0].repository, ":a"))  # and a deletion is one
    group.arrives("refs/heads/a", "")


def serves(repository: Path) -> Talk:
    """An honest peer."""

    def talk(connection: socket.socket) -> None:
        size = int(connection.recv(4), 16)
        connection.recv(size - 4)
        subprocess.run(
            ["git", "upload-pack", str(repository)],
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_PROTOCOL": "version=2"},
            check=False,
        )

    return talk


LIES = ("corrupt", "truncated", "without its closure", "endless", "silent")


def test_lying_peer(make_group: MakeGroup) -> None:
    """Whatever the only peer sends, nothing of it is seen here; and once it tells the truth, all is well."""
    group = make_group(0)
    a = group.add("a")
    talks: list[Talk] = [serves(a.repository)]
    with lying_peer(lambda connection: talks[-1](connection)) as url:
        a.url = url
        a.build()
        b = group.add("b").build().start("--fetch-stall", "0.5", "--fetch-max-bytes", "300000")
        work, first = group.begun()
        group.arrives(MAIN, first, [b], timeout=PATIENCE)
        for lie in LIES:
            tip = git.commit(work, lie, content=os.urandom(10_000).hex())
            pack = pack_of(work, *closure(work, tip))
            flipped = bytes([*pack[: len(pack) // 2], pack[len(pack) // 2] ^ 0xFF, *pack[len(pack) // 2 + 1 :]])
            blob = git.rev_parse(work, f"{tip}:file.txt")
            talks.append(
                {
                    "corrupt": sends_pack(flipped),
                    "truncated": sends_pack(pack[: len(pack) // 2], cut=True),
                    "without its closure": sends_pack(pack_of(work, *closure(work, tip, blob))),
                    "endless": sends_for_ever,
                    "silent": falls_silent_in_the_pack,
                }[lie]
            )
            ref = f"refs/heads/{lie.replace(' ', '-')}"
            accepted(git.push(work, a.repository, f"HEAD:{ref}"))
            b.stuck(ref)
            assert b.at(ref) == ""
            assert not git.has_object(b.repository, tip), lie
            talks.append(serves(a.repository))
            group.arrives(ref, tip, [b], timeout=PATIENCE)
        assert list(b.repository.glob("objects/piehole-quarantine-*")) == []
        b.fsck()


def test_lying_peer_is_passed_over(make_group: MakeGroup) -> None:
    """Where another peer has the objects, nobody waits for one that has fallen silent."""
    group = make_group(0)
    with lying_peer(falls_silent_in_the_pack) as url:
        liar = group.add("liar", url=url).build()
        honest = group.add("honest").build()
        b = group.add("b").build()
        work = git.clone(liar.repository, group.fresh("work"))
        tip = git.commit(work, "one")
        accepted(git.push(work, honest.repository, "HEAD:main"))
        accepted(git.push(work, liar.repository, "HEAD:main"))  # it is the last that told of having it
        b.start()
        began = time.monotonic()
        group.arrives(MAIN, tip, [b], timeout=PATIENCE)
        assert time.monotonic() - began < PATIENCE, "a stall is a minute"


def test_lying_peer_a_malformed_tree_is_refused_where_it_is_pushed(make_group: MakeGroup) -> None:
    """And is no reason to stand still at the sites that hear of it: what one site admitted, all can have."""
    group = make_group(2)
    a = group[0]
    work, first = group.begun()
    blob = git.rev_parse(work, f"{first}:file.txt")
    entry = b"100644 .git\0" + bytes.fromhex(blob)
    made = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
        cwd=work,
        input=entry,
        capture_output=True,
        check=True,
    )
    tree = made.stdout.decode().strip()
    evil = git.git(work, "commit-tree", "-m", "evil", "-p", first, tree).stdout.strip()
    assert ".git" in git.push(work, a.repository, f"{evil}:{MAIN}").stderr
    assert group.value() == first
    git.git(a.repository, "config", "receive.fsckObjects", "false")
    accepted(git.push(work, a.repository, f"{evil}:{MAIN}"))
    group.arrives(MAIN, evil)


def test_disk_trouble(make_group: MakeGroup) -> None:
    """A disk that takes no more bytes: a push is refused before the swap, a fetch leaves nothing, and both go on after it."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    second = git.commit(work, "large", content=os.urandom(300_000).hex())
    # 50 KiB a file; what a full disk says to a write, a limit on the size of files says, too.
    full = "--receive-pack=ulimit -f 100; git-receive-pack"
    assert git.push(work, a.repository, full, "HEAD:main").returncode != 0
    assert (group.value(), a.at()) == (first, first)
    assert b.controller is not None
    soft, hard = limit_of_file_size(b.controller.pid, (50 << 10, -1))
    accepted(git.push(work, a.repository, "HEAD:main"))
    b.stuck(MAIN)
    assert b.at() == first
    assert list(b.repository.glob("objects/piehole-quarantine-*")) == []
    limit_of_file_size(b.controller.pid, (soft, hard))
    group.arrives(MAIN, second, timeout=PATIENCE)
    b.fsck()


def limit_of_file_size(pid: int, limits: tuple[int, int]) -> tuple[int, int]:
    """Limit the files that a process and those that it starts can write (bytes); returns the limits of before."""
    import resource

    return resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def test_disk_trouble_a_lock_in_the_way(make_group: MakeGroup) -> None:
    """Before the swap at the site of the push; at another one that ref alone is stuck, with git's own words."""
    group = make_group(2)
    a, b = group
    work, first = group.begun("side")
    for site in group:
        for record in records(site.repository):
            record.unlink(missing_ok=True)  # of a push that is over: else the lock might be its leftover
        lock = site.repository / f"{MAIN}.lock"
        lock.touch()
        os.utime(lock, (time.time() - 3600, time.time() - 3600))
    second = git.commit(work, "second")
    assert git.push(work, a.repository, "HEAD:main").returncode != 0
    assert group.value() == first
    (a.repository / f"{MAIN}.lock").unlink()
    accepted(git.push(work, a.repository, "HEAD:main", "HEAD:side"))
    group.arrives("refs/heads/side", second)
    assert "main.lock" in b.stuck(MAIN)
    assert b.at() == first
    (b.repository / f"{MAIN}.lock").unlink()
    group.arrives(MAIN, second, timeout=PATIENCE)


def test_replaced_history(world: Group) -> None:
    """Replacements and grafts let git see a fast-forward where the group sees none."""
    a, work, first = world.founded("a")
    b = world["b"].build(settings={"piehole.catchUp": "0.2"}).repository
    assert world.reconcile(b).status == 0
    theirs = git.commit(work, "theirs")
    accepted(git.push(work, a, "HEAD:main"))
    git.git(work, "reset", "-q", "--hard", first)
    ours = git.commit(work, "ours")
    git.git(work, "checkout", "-q", theirs)
    like_ours = git.commit(work, "like ours")
    accepted(git.push(work, b, f"{like_ours}:refs/replace/{ours}", f"{theirs}:refs/heads/objects"))
    refused(git.push(work, b, f"{ours}:{MAIN}"), "stale")

    def behind_again() -> None:
        until(lambda: not catching_up(b), PATIENCE)
        git.git(b, "update-ref", MAIN, first)

    behind_again()
    (b / "info" / "grafts").write_text(f"{ours} {theirs}\n")
    refused(git.push(work, b, f"{ours}:{MAIN}"), "stale")
    assert git.git(b, "merge-base", "--is-ancestor", theirs, ours, check=False).returncode == 0, "git itself is fooled"
    assert world.history() == [first, theirs]
    # Where history is cut nothing descends from anything.
    behind_again()
    (b / "info" / "grafts").unlink()
    (b / "shallow").write_text(f"{first}\n")
    git.git(work, "checkout", "-q", "-B", "on", theirs)
    git.commit(work, "on theirs")
    refused(git.push(work, b, "HEAD:main"), "stale")
    assert world.history() == [first, theirs]


def test_replaced_history_such_repositories_are_not_installed(make_group: MakeGroup) -> None:
    group = make_group(1)
    (a,) = group
    group.begun()
    for fault in ("shallow", "partial", "grafts"):
        site = Site(group, fault, "")
        git.make_bare(site.repository)
        if fault == "partial":
            git.git(site.repository, "config", "extensions.partialClone", "origin")
        else:
            (site.repository / {"shallow": "shallow", "grafts": "info/grafts"}[fault]).write_text("12" * 20 + "\n")
        with pytest.raises(PieholeError, match=fault):
            site.build()
        assert group.etcd.get(f"{group.prefix}/site/{group.name}/{fault}") is None
    (a.repository / "info" / "grafts").write_text("")
    checked = a.piehole("check", check=False)
    assert checked.status == 1
    assert "grafts" in checked.out + checked.err
