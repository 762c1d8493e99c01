"""Objects are removed from a store, and no others; an interruption anywhere leaves something to go on from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.errors import GitError
from piehole.transfer import removal
from piehole.transfer.keep_files import Hold, sweep
from piehole.transfer.removal import Removal
from tests.support.git import git, has_object, make_bare, rev_parse

Store = tuple[Path, dict[str, str]]


def written(repository: Path, content: str) -> str:
    return git(repository, "hash-object", "-w", "--stdin", stdin=content).stdout.strip()


@pytest.fixture(params=["loose", "packed", "several packs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A repository with a blob to go, one that nothing refers to, and one that a ref refers to."""
    repository = make_bare(tmp_path / "a:b.git")  # a colon parts the names of alternates
    names = {name: written(repository, f"{name}\n" * 300) for name in ("doomed", "unreferenced", "referred")}
    names["like it"] = written(
        repository, "doomed\n" * 299 + "referred\n"
    )  # git stores one as the difference to the other
    git(repository, "update-ref", "refs/tags/referred", names["referred"])
    if request.param != "loose":
        for packed in (list(names.values()), list(names.values())[:1])[: 2 if request.param == "several packs" else 1]:
            git(repository, "pack-objects", "-q", "objects/pack/pack", stdin="".join(f"{oid}\n" for oid in packed))
        git(repository, "prune-packed", "-q")
        git(repository, "multi-pack-index", "write")
    return repository, names


def remove(repository: Path, oid: str, tips: tuple[str, ...] = ()) -> set[str]:
    """Begin or go on, and finish."""
    one = Removal(repository, oid, "sha1")
    if not one.has_begun:
        one.begin([oid], [])
    with Hold() as hold:
        if not one.is_set_aside:
            assert one.set_aside(one.rewrite_packs(hold), ["a push"])
        assert one.pushes == ["a push"]
        needed = one.needed(tips)
        if needed:
            one.put_back(needed, hold)
        one.finish()
    return needed


def all_but_doomed(repository: Path, names: dict[str, str]) -> None:
    assert [name for name, oid in names.items() if has_object(repository, oid)] == [
        "unreferenced",
        "referred",
        "like it",
    ]
    git(repository, "fsck", "--full", "--strict", "--no-dangling")
    assert removal.begun(repository) == []
    packs = repository / "objects" / "pack"
    assert not list(packs.glob("*.keep"))


def test_one_object_goes_and_no_other(store: Store) -> None:
    repository, names = store
    assert remove(repository, names["doomed"]) == set()
    all_but_doomed(repository, names)
    for name in ("unreferenced", "like it"):
        assert git(repository, "cat-file", "-p", names[name]).stdout


@pytest.mark.parametrize("store", ["loose", "packed"], indirect=True)
def test_an_interruption_anywhere_leaves_what_can_be_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, names = store
    first = {path.name for path in repository.rglob("*.pack")}
    steps = 0

    def interrupting(real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **named: object) -> object:
            nonlocal steps
            steps -= 1
            if steps == 0:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        return step

    for owner, name in (
        (Path, "rename"),
        (Path, "mkdir"),
        (Path, "replace"),
        (removal, "replace_file"),
        (removal, "call"),
    ):
        monkeypatch.setattr(owner, name, interrupting(getattr(owner, name)))
    for at in range(1, 60):
        tried = repository.with_name(f"{at}.git")
        shutil.copytree(repository, tried)
        steps = at
        try:
            remove(tried, names["doomed"])
        except KeyboardInterrupt:
            steps = 0
            sweep(tried)
            assert all(has_object(tried, names[name]) for name in ("unreferenced", "referred", "like it"))
            remove(tried, names["doomed"])
            all_but_doomed(tried, names)
            assert not [path for path in tried.rglob("*.pack") if path.name in first]
        else:
            break
        shutil.rmtree(tried)
    assert at > 5


def test_what_was_copied_once_is_not_copied_at_the_next_attempt(store: Store) -> None:
    repository, names = store
    one = Removal(repository, names["doomed"], "sha1")
    one.begin([names["doomed"]], [])
    packs = []
    for _ in range(2):
        with Hold() as hold:
            one.rewrite_packs(hold)
        packs.append({path.name for path in (repository / "objects" / "pack").glob("*.pack")})
    assert packs[0] == packs[1]


def test_what_a_ref_has_come_to_need_is_put_back(store: Store) -> None:
    repository, names = store
    assert remove(repository, names["doomed"], (names["doomed"], names["referred"])) == {names["doomed"]}
    assert has_object(repository, names["doomed"])
    git(repository, "fsck", "--full", "--strict", "--no-dangling")


def test_a_pack_that_is_protected_and_one_that_comes_meanwhile_make_it_wait(store: Store) -> None:
    repository, names = store
    one = Removal(repository, names["doomed"], "sha1")
    one.begin([names["doomed"]], [])
    with Hold() as hold:
        seen = one.rewrite_packs(hold)
        for index in seen:
            index.with_suffix(".keep").touch()
        if seen:
            with pytest.raises(GitError, match="protects a pack"):
                one.rewrite_packs(hold)
            with pytest.raises(GitError, match="protects a pack"):
                one.set_aside(seen, [])
            for index in seen:
                index.with_suffix(".keep").unlink()
        git(repository, "pack-objects", "-q", "objects/pack/pack", stdin=f"{names['doomed']}\n{names['referred']}\n")
        assert not one.set_aside(seen, [])
    assert not one.is_set_aside
    assert has_object(repository, names["doomed"])
    remove_anew = Removal(repository, names["doomed"], "sha1")
    with Hold() as hold:
        assert remove_anew.set_aside(remove_anew.rewrite_packs(hold), [])
    remove_anew.finish()
    all_but_doomed(repository, names)


def test_nothing_is_set_aside_while_somebody_relies_on_what_is_here(tmp_path: Path) -> None:
    repository = make_bare(tmp_path / "a.git")
    (repository / "piehole").mkdir()
    with removal.excluded(repository), removal.excluded(repository), removal.alone(repository, Deadline(0.0)) as alone:
        assert not alone
    with removal.alone(repository, Deadline(0.0)) as alone:
        assert alone


def test_a_commit_graph_forgets_the_commits(tmp_path: Path) -> None:
    repository = make_bare(tmp_path / "a.git")
    tree = git(repository, "mktree", stdin="").stdout.strip()
    first = git(repository, "commit-tree", tree, "-m", "first").stdout.strip()
    doomed = git(repository, "commit-tree", tree, "-p", first, "-m", "secret").stdout.strip()
    git(repository, "update-ref", "refs/heads/main", doomed)
    git(repository, "commit-graph", "write", "--reachable", "--split")
    git(repository, "update-ref", "refs/heads/main", first)
    assert remove(repository, doomed) == set()
    git(repository, "commit-graph", "verify")
    assert git(repository, "-c", "core.commitGraph=true", "rev-list", doomed, check=False).returncode != 0
    assert rev_parse(repository, "main") == first
