"""Programs that write to a site's repository past receive-pack: a server of dulwich, libgit2 by path, a `git fetch` by cron."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend
from dulwich.web import make_wsgi_chain

from tests.guide.markdown import blocks
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group
from tests.support.ports import LOOPBACK
from tests.support.sites import Site

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "outside-changes.md"
FEATURE = "refs/heads/feature"


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def dulwich_server(site: Site, *, hooks: bool) -> Iterator[str]:
    """What `dulwich web-daemon` serves, on loopback; without ``hooks`` as JGit and libgit2 do it, which know none of git's."""
    repository = Repo(str(site.repository))
    if not hooks:
        repository.hooks.clear()
    app = make_wsgi_chain(DictBackend({"/": cast(BackendRepo, repository)}))
    server: WSGIServer = make_server(LOOPBACK, 0, app, handler_class=_Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        repository.close()


def test_a_server_of_dulwich_in_front_of_a_site_is_refused_by_update(pair: Group) -> None:
    pair.commit("two")
    with dulwich_server(pair["a"], hooks=True) as url, pair.unchanged(pair["a"].repository):
        pushed = git.push(pair.work, url, "HEAD:main", "HEAD:feature")
        assert pushed.returncode != 0
        assert "[remote rejected]" in pushed.stderr
        assert "no living git receive-pack runs this hook" in pushed.stderr


def test_what_a_server_without_hooks_has_moved_is_put_back_or_told_as_unadopted(pair: Group) -> None:
    a, before = pair["a"], pair["a"].at()
    tip = pair.commit("two")
    with dulwich_server(a, hooks=False) as url:
        accepted(git.push(pair.work, url, "HEAD:main", "HEAD:feature", ":topic"))
    assert (a.at(), a.at(FEATURE), a.at("refs/heads/topic")) == (tip, tip, "")
    assert pair.value() == before
    said = pair.reconcile("a")
    assert (a.at(), a.at("refs/heads/topic")) == (before, before)
    for ref in (MAIN, "refs/heads/topic"):
        assert said.line(f"put back: {ref} ")
    assert said.line(f"unadopted: {FEATURE}")
    a.offered(said.line(f"put back: {MAIN} "))
    a.offered(said.line(f"unadopted: {FEATURE}"))
    assert pair.reconcile("a", "b").status == 0
    assert (pair["b"].at(), pair["b"].at(FEATURE)) == (tip, tip)


def upstream(group: Group) -> Path:
    """An outside repository: the group's history with another main, a branch of its own, and no topic."""
    work = git.clone(group["a"].repository, group.folder / "upstream")
    git.commit(work, "upstream")
    git.git(work, "branch", "feature")
    return work


def test_a_cron_job_that_fetches_into_a_site_is_undone_and_told(pair: Group) -> None:
    a, before = pair["a"], pair["a"].at()
    outside = upstream(pair)
    git.git(a.repository, "remote", "add", "origin", str(outside))
    for _ in range(2):  # each run of the job
        git.git(a.repository, "fetch", "--quiet", "--prune", "origin", "+refs/heads/*:refs/heads/*")
        assert a.at() != before
        status = a.piehole("status", check=False)
        for ref in (MAIN, "refs/heads/topic"):
            assert "changed here without a push" in status.line(f"pending: {ref}: ")
        said = pair.reconcile("a", "b")
        assert said.line(f"put back: {MAIN} ")
        assert (a.at(), a.at("refs/heads/topic")) == (before, before)
        assert a.piehole("check").line(f"warning: the group has no value for {FEATURE}")
    assert pair["b"].refs() == {MAIN: before, "refs/heads/topic": before}


def test_the_documented_job_pushes_an_outside_repository_into_the_group(pair: Group) -> None:
    outside = upstream(pair)
    [block] = [block for block in blocks(PAGE) if block.section == "Mirror an outside repository"]
    script = "\n".join(command.text for command in block.commands)
    for page, here in (
        ("https://git.example.org/upstream.git", str(outside)),
        ("~/upstream.git", str(pair.folder / "job.git")),
        ("/srv/git/tools.git", str(pair["a"].repository)),
    ):
        script = script.replace(page, here)
    once, *each = script.splitlines()
    for number, line in enumerate([once, *each, *each]):
        if number == 3:
            git.commit(outside, "later")
        git.git(pair.folder, *shlex.split(line)[1:])
    assert pair.reconcile("a", "b").status == 0
    tip = git.rev_parse(outside)
    assert pair["b"].at("refs/heads/upstream/main") == tip
    assert "put back" not in pair.reconcile("a").out
