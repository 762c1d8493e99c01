"""Damaged objects are found by `piehole audit --verify` and `--deep`, and `--repair` gets them back from a site that has them."""

from __future__ import annotations

import json
import subprocess
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from piehole.commands import audit as auditing
from piehole.files import locked
from piehole.refs import HELD_REFS, KEPT_REFS
from piehole.repository import verification
from piehole.transfer import damaged_files, pack_objects, proof
from piehole.transfer.git_objects import BLOB, GitObject, kind_of, oid_of
from piehole.transfer.pace import Pace, Stopped
from piehole.transfer.packfile import packed, write_pack
from tests.field.test_corrupt_copies import is_whole, noise, overwrite, the_pack, two
from tests.support.command_line import Answer
from tests.support.command_line import piehole_in_process as piehole
from tests.support.git import MAIN, git
from tests.support.groups import Group, MakeGroup
from tests.support.wait import PATIENCE, until


def middle(path: Path) -> None:
    """Zero 20 bytes in the middle of a file."""
    overwrite(path, path.stat().st_size // 2, bytes(20))


def a_pack(repository: Path) -> Path:
    pack = the_pack(repository)
    middle(pack)
    return pack


def an_index(repository: Path) -> Path:
    index = the_pack(repository).with_suffix(".idx")
    middle(index)
    return index


def an_index_of_another_pack(repository: Path) -> Path:
    index = the_pack(repository).with_suffix(".idx")
    _, other = write_pack([(oid_of(blob, "sha1"), packed(blob)) for blob in [GitObject(BLOB, b"x")]], "sha1")
    index.chmod(0o644)
    index.write_bytes(other)
    return index


def a_reverse_index(repository: Path) -> Path:
    git(repository, "-c", "pack.writeReverseIndex=true", "repack", "-adfq")
    (path,) = (repository / "objects" / "pack").glob("*.rev")
    middle(path)
    return path


def a_bitmap(repository: Path) -> Path:
    git(repository, "repack", "-adbq")
    (path,) = (repository / "objects" / "pack").glob("*.bitmap")
    middle(path)
    return path


def a_commit_graph(repository: Path) -> Path:
    the_pack(repository)
    git(repository, "commit-graph", "write", "--reachable")
    path = repository / "objects" / "info" / "commit-graph"
    middle(path)
    return path


def a_multi_pack_index(repository: Path) -> Path:
    the_pack(repository)
    git(repository, "multi-pack-index", "write")
    path = repository / "objects" / "pack" / "multi-pack-index"
    middle(path)
    return path


def a_loose_object(repository: Path) -> Path:
    pack = the_pack(repository)
    away = repository / "away.pack"
    pack.rename(away)
    for path in pack.parent.iterdir():
        path.unlink()
    with away.open("rb") as file:
        subprocess.run(["git", "unpack-objects", "-q"], cwd=repository, stdin=file, check=True)
    away.unlink()
    blob = git(repository, "rev-parse", "refs/heads/main~1:file.txt").stdout.strip()
    path = repository / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob 3\0abc"))
    return path


DAMAGES = [
    a_pack,
    an_index,
    a_commit_graph,
    pytest.param(a_loose_object, marks=pytest.mark.slow),
    pytest.param(a_multi_pack_index, marks=pytest.mark.slow),
    pytest.param(a_bitmap, marks=pytest.mark.slow),
    pytest.param(a_reverse_index, marks=pytest.mark.slow),
    pytest.param(an_index_of_another_pack, marks=pytest.mark.slow),
]


def audit(repository: Path, *options: str) -> Answer:
    return piehole("audit", "-C", repository, *options)


def known(group: Group, site: str) -> dict[str, Any]:
    raw = group.etcd.get(f"{group.prefix}/progress/g/{site}")
    return dict(json.loads(raw or "{}").get("verified", {}))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_a_damaged_file_is_found_and_repaired(make_group: MakeGroup, damage: Callable[[Path], Path]) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    path = damage(b)
    before = path.read_bytes()
    # The refs alone do not tell.
    assert audit(b).status == 0
    found = audit(b, "--verify", "--local", "--json")
    assert found.status == 1, found
    (one,) = found.json["repositories"]
    assert str(path) in one["objects"]["damaged"]
    # What was found is known: here, and to the other site once it is published.
    assert "`piehole audit --deep --repair` here" in audit(b).line("site b: missing: ")
    repaired = audit(b, "--deep", "--repair")
    assert repaired.status == 0, repaired
    assert repaired.line("objects: repaired: ")
    assert is_whole(b)
    set_aside = [one.read_bytes() for one in (b / "piehole" / "damaged").rglob("*") if one.is_file()]
    assert before in set_aside
    if damage not in (a_pack, a_loose_object):
        assert list(path.parent.glob(f"*{path.suffix or path.name}*")), "it was made anew"
    git(b, "fsck", "--full", "--strict", "--no-dangling")
    assert audit(b, "--deep").status == 0


def a_wrong_content(repository: Path) -> str:
    """A pack whose checksums are right, and in which a blob has the content of another: what is packed from damaged memory looks so."""
    blob = git(repository, "rev-parse", "refs/heads/main~2:file.txt").stdout.strip()
    entries = []
    for oid in git(repository, "rev-list", "--objects", "--no-object-names", "--all").stdout.split():
        kind = git(repository, "cat-file", "-t", oid).stdout.strip()
        done = subprocess.run(["git", "cat-file", kind, oid], cwd=repository, capture_output=True, check=True)
        content = done.stdout if oid != blob else done.stdout.replace(b"a", b"b", 1)
        entries.append((bytes.fromhex(oid), packed(GitObject(kind_of(kind.encode()), content))))
    folder = the_pack(repository).parent
    for path in folder.iterdir():
        path.unlink()
    pack, index = write_pack(sorted(entries), "sha1")
    (folder / "pack-made.pack").write_bytes(pack)
    (folder / "pack-made.idx").write_bytes(index)
    return blob


def test_only_a_deep_audit_finds_what_was_damaged_before_it_was_packed(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    blob = a_wrong_content(b)
    assert audit(b, "--verify").status == 0
    found = audit(b, "--deep", "--json")
    assert found.status == 1
    (one,) = found.json["repositories"]
    assert one["objects"]["objects"] == {blob: "objects/pack/pack-made.pack"}
    assert one["objects"]["sound"] is False
    # An examination of the files does not see it, and does not take the mark away; nor does a repair that could not get it.
    assert "corrupt: " in piehole("check", b).out
    away = group["a"].repository.rename(group["a"].repository.with_name("away.git"))
    assert group.reconcile("b").status == 1
    assert verification.corrupt(b)
    away.rename(group["a"].repository)
    assert group.reconcile("b").status == 0, "it is repaired by any reconcile"
    assert not verification.corrupt(b)
    assert audit(b, "--deep").status == 0
    assert is_whole(b)
    assert (b / "piehole" / "damaged" / "pack-made.pack").exists()


def test_what_no_site_has_is_named_and_everything_else_comes_back(make_group: MakeGroup) -> None:
    group, work = two(make_group, started=False)
    a, b = group["a"].repository, group["b"].repository
    lost = git(b, "rev-parse", "refs/heads/main~2:file.txt").stdout.strip()
    other = git(b, "rev-parse", "refs/heads/main~1:file.txt").stdout.strip()
    for repository, gone in ((a, [lost]), (b, [lost, other])):
        pack = the_pack(repository)
        away = repository / "away.pack"
        pack.rename(away)
        for path in pack.parent.iterdir():
            path.unlink()
        with away.open("rb") as file:
            subprocess.run(["git", "unpack-objects", "-q"], cwd=repository, stdin=file, check=True)
        away.unlink()
        for oid in gone:
            (repository / "objects" / oid[:2] / oid[2:]).unlink()
    found = audit(b, "--deep", "--repair")
    assert found.status == 1
    assert f"objects: {lost} is missing" in found.out
    assert found.line(f"objects: missing: {MAIN} is at ")
    # An administrator who has it puts it there; then the other site gets it from there.
    content = git(work, "cat-file", "blob", lost).stdout
    git(a, "hash-object", "-w", "--stdin", stdin=content)
    assert audit(a, "--deep").status == 1, "b is known to be corrupt"
    repaired = audit(b, "--deep", "--repair")
    assert repaired.status == 0, repaired
    assert is_whole(b)


@pytest.mark.parametrize("below", [KEPT_REFS, HELD_REFS])
def test_a_tip_that_is_kept_or_held_and_lost_is_found_and_fetched(make_group: MakeGroup, below: str) -> None:
    group, work = two(make_group, started=False)
    git(work, "checkout", "-q", "-b", "other")
    tip = noise(work, 50)
    ref = f"{below}{tip}" if below == KEPT_REFS else f"{below}0123/0"
    for site in group:
        git(site.repository, "fetch", "-q", str(work), f"other:{ref}")
        git(site.repository, "repack", "-adq")
    b = group["b"].repository
    blob = git(b, "rev-parse", f"{tip}:file.txt").stdout.strip()
    (pack,) = (b / "objects" / "pack").glob("*.pack")
    listed = git(b, "rev-list", "--objects", "--no-object-names", "--all").stdout.split()
    names = "".join(f"{oid}\n" for oid in listed if oid != blob)
    git(b, "pack-objects", "-q", str(b / "objects" / "pack" / "pack"), stdin=names)
    for path in pack.parent.glob(f"{pack.stem}.*"):
        path.unlink()
    found = audit(b, "--deep", "--local")
    assert found.status == 1
    assert audit(b).status == (0 if below == KEPT_REFS else 1), (
        "a kept tip is no ref of the group; a held one is a promise"
    )
    repaired = audit(b, "--deep", "--repair")
    assert repaired.status == 0, repaired
    assert repaired.line("objects: repaired: ")
    assert git(b, "cat-file", "-t", blob).stdout == "blob\n"


def test_a_proof_that_was_killed_goes_on_where_it_was(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    pack = the_pack(b)
    proven: list[str] = []

    def stop_at(bytes_: int) -> proof.Proof:
        read: list[int] = []

        def progress(total: int, doing: str) -> None:
            read.append(total)
            if not proven or proven[-1] != doing:
                proven.append(doing)

        pace = Pace(stop=lambda: bool(bytes_) and read[-1] > bytes_, progress=progress)
        return proof.prove(b, [group["b"].at()], "sha1", pace, deep=True)

    size = proof.total(b, deep=False)  # all checksums, and no object yet
    with pytest.raises(Stopped):
        stop_at(size)
    assert proven[-1] == f"objects of {pack.name}"
    done = json.loads((b / proof.FILE).read_text())["done"]
    assert f"objects/pack/{pack.name}" in done
    proven.clear()
    whole = stop_at(0)
    assert whole.sound
    assert f"checksum of {pack.name}" not in proven, "it is proven already"
    assert not (b / proof.FILE).exists()
    # What has changed since is proven again, and what was found is not taken for proven.
    with pytest.raises(Stopped):
        stop_at(size)
    middle(pack)
    assert stop_at(0).damaged == [pack]


def test_a_damaged_object_is_found_again_by_the_proof_that_goes_on(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    blob = a_wrong_content(b)
    files = proof.total(b, deep=False)
    read: list[int] = []

    def stop_after_all_objects() -> bool:
        return doing[-1].startswith("the history") if doing else False

    doing: list[str] = []

    def progress(total: int, what: str) -> None:
        read.append(total)
        doing.append(what)

    with pytest.raises(Stopped):
        proof.prove(b, [group["b"].at()], "sha1", Pace(stop=stop_after_all_objects, progress=progress), deep=True)
    assert read[-1] > files
    assert list(proof.prove(b, [group["b"].at()], "sha1", Pace(), deep=True).objects) == [blob]


def test_what_was_set_aside_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "damaged"
    target.mkdir()
    for content in ("one", "two", "three"):
        (tmp_path / "pack-x.pack").write_text(content)
        damaged_files.put_aside(target, tmp_path / "pack-x.pack")
    assert sorted(path.read_text() for path in target.iterdir()) == ["one", "three", "two"]


def test_reading_keeps_to_its_rate() -> None:
    began = time.monotonic()
    pace = Pace(rate=1e6)
    for _ in range(15):
        pace.step(100_000, "")
    assert 0.8 < time.monotonic() - began < 5, "half a second may be ahead of the rate"


def test_a_pack_that_a_repack_takes_away_meanwhile_is_no_damage(
    make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    pack = the_pack(b)
    ask = pack_objects._Reader._ask

    def repack(reader: Any, oids: Any) -> Any:
        if pack.exists():  # its objects are listed, and none of them is read
            git(b, "-c", "pack.compression=0", "repack", "-adFq")
        return ask(reader, oids)

    monkeypatch.setattr(pack_objects._Reader, "_ask", repack)
    found = proof.prove(b, [group["b"].at()], "sha1", Pace(), deep=True)
    assert not pack.exists()
    assert found.sound, found


def test_two_audits_do_not_prove_one_repository_at_once(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    with locked(b / "piehole" / "verifying.lock", 0o644):
        found = audit(b, "--deep")
    assert found.status == 1
    assert "being proven by another process" in found.err


@pytest.mark.parametrize(
    "options",
    [["--repair"], ["--local"], ["--deep", "--verify"], ["--deep", "--rate", "-1"], ["--deep", "--local", "--repair"]],
)
def test_options_that_make_no_sense_together_are_refused(make_group: MakeGroup, options: list[str]) -> None:
    group = make_group(1, started=False)
    assert audit(group["a"].repository, *options).status == 2


def test_objects_are_proven_where_etcd_cannot_be_asked(make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    monkeypatch.setattr(auditing, "_PATIENCE", 0.5)
    found = audit(b, "--verify", "--json", "--etcd", "http://127.0.0.1:1")
    assert found.status == 3
    (one,) = found.json["repositories"]
    assert one["objects"]["sound"] is True
    assert "127.0.0.1:1" in one["error"]
    found = audit(b, "--verify", "--local", "--etcd", "http://127.0.0.1:1")
    assert found.status == 0, found


def test_a_repair_waits_for_another_process_that_repairs(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    a_pack(b)
    with ThreadPoolExecutor(1) as pool:
        with locked(b / "piehole" / "repair.lock", 0o644):
            repair = pool.submit(audit, b, "--deep", "--repair")
            until(lambda: verification.corrupt(b), PATIENCE, "the damage is found")
            # It goes to the lock at once, and must be waiting there: one that does not wait ends within a second.
            with pytest.raises(TimeoutError):
                repair.result(3)
        assert repair.result(PATIENCE).status == 0


@pytest.mark.slow
def test_a_running_controller_and_the_command_repair_one_after_the_other(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=True)
    b = group["b"].repository
    path = a_pack(b)
    repaired = audit(b, "--deep", "--repair")
    assert repaired.status == 0, repaired
    assert is_whole(b)
    assert not path.exists()
    # And what only a deep audit finds is repaired by the controller.
    blob = a_wrong_content(b)
    found = audit(b, "--deep", "--json", "--local")
    assert list(found.json["repositories"][0]["objects"]["objects"]) == [blob]
    until(lambda: not verification.corrupt(b), PATIENCE, "the controller has repaired it")
    assert audit(b, "--deep", "--local").status == 0
