"""Git LFS: the pointers are replicated, the large files are not; what each side is told."""

from __future__ import annotations

from tests.support import git
from tests.support.command_line import piehole_in_process
from tests.support.groups import Group, MakeGroup

# A stand-in for git-lfs, with its protocol of one file at a time: pointers in, files out of the store beside the pushed repository.
CLEAN = 'mkdir -p {store} && cat >{store}/$$ && oid=$(sha1sum <{store}/$$ | cut -c1-40) && mv {store}/$$ {store}/$oid && echo "oid $oid"'
SMUDGE = (
    'read -r _ oid && [ -e "{store}/$oid" ] || {{ echo "remote missing object $oid" >&2; exit 1; }}; cat "{store}/$oid"'
)


def use_lfs(group: Group, repository: str, site: str, *options: str) -> tuple[str, ...]:
    """The options of git with which a clone of a site uses that site's store of large files."""
    store = group[site].repository / "lfs"
    return (
        *options, "-c", f"filter.lfs.clean={CLEAN.format(store=store)}", "-c", f"filter.lfs.smudge={SMUDGE.format(store=store)}",
        "-c", "filter.lfs.required=true", *repository.split(),
    )  # fmt: skip


def test_check_says_before_a_clone_fails_that_each_site_has_large_files_of_its_own(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    group.commit("one")
    (group.work / ".gitattributes").write_text("*.bin filter=lfs\n")
    (group.work / "image.bin").write_text("large " * 1000)
    git.git(group.work, *use_lfs(group, "add .", "a"))
    git.git(group.work, *use_lfs(group, "commit -q -m large", "a"))
    pushed = group.push("a", "HEAD:main")
    assert "LFS" not in pushed.stderr  # the push of the pointers is a push like any other
    assert group.reconcile("a", "b").status == 0
    git.git(group.folder, *use_lfs(group, f"clone -q {group['a'].repository} good", "a"))
    assert (group.folder / "good" / "image.bin").read_text() == "large " * 1000
    failed = git.git(group.folder, *use_lfs(group, f"clone {group['b'].repository} bad", "b"), check=False)
    assert failed.returncode != 0
    assert "Clone succeeded, but checkout failed" in failed.stderr
    for site in group:
        warning = piehole_in_process("check", site.repository).line(
            "warning: the repository uses Git LFS (.gitattributes of HEAD)"
        )
        assert "a clone of another site fails at its checkout" in warning
        assert "one LFS server (lfs.url in a committed .lfsconfig)" in warning
