"""Nothing of git's own runs at the site that receives a push's copy: what others read there must be fresh all the same."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import git
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.ports import LOOPBACK
from tests.support.pushes import write_hook
from tests.support.wait import until


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def files_over_http(folder: Path) -> Iterator[str]:
    """A server of plain files, which knows nothing of git."""
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("way", ["setting", "hook"])
@pytest.mark.parametrize("daemon", [True, False], ids=["controller", "once"])
def test_a_dumb_http_clone_of_another_site_has_what_was_pushed(
    make_group: MakeGroup, tmp_path: Path, way: str, daemon: bool
) -> None:
    group = make_group(2, started=daemon)
    b = group["b"]
    if way == "setting":
        git.git(b.repository, "config", "receive.updateServerInfo", "true")
    else:
        write_hook(b.repository, "post-update", "#!/bin/sh\nexec git update-server-info\n")
    with files_over_http(b.root) as url:
        for number in range(2):
            oid = group.commit(f"change {number}")
            group.push("a", "HEAD:main", f"HEAD:refs/heads/new{number}")
            if daemon:
                group.arrives(MAIN, oid)
            else:
                assert group.reconcile("b").status == 0
            last = f"{oid}\trefs/heads/new{number}"

            def is_there(last: str = last) -> bool:
                return last in git.git(tmp_path, "ls-remote", f"{url}/project.git", check=False).stdout

            until(is_there, 15)
        work = git.clone(f"{url}/project.git", tmp_path / "work")
        assert git.rev_parse(work, "origin/new1") == oid


def test_where_nobody_serves_dumb_http_nothing_is_written(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    group.commit("one")
    group.push("a")
    assert group.reconcile("b").status == 0
    assert not (group["b"].repository / "info" / "refs").exists()
