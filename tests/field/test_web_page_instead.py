"""A login page, answered with 200 and HTML, where git or etcd should be: it is called one, and nothing is concluded from it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.support.assertions import accepted
from tests.support.git import commit, push
from tests.support.groups import Group
from tests.support.ports import LOOPBACK

_PAGE = b"<!DOCTYPE html>\n<html><body><form>Please log in</form></body></html>\n"


class _LoginPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(_PAGE)))
        self.end_headers()
        self.wfile.write(_PAGE)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a server that answers everything with a login page."""
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), _LoginPage) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_check_and_the_reconcile_call_a_web_page_at_a_peer_s_url_what_it_is(world: Group, page: str) -> None:
    world.install("a", "b")
    work = world["a"].clone()
    first = commit(work, "first")
    accepted(push(work, world["a"].repository, "HEAD:main"))
    # The only peer that has the commit serves it behind a login page now.
    world["a"].piehole("install", "--url", f"{page}/project.git")
    answer = world["b"].piehole("check", check=False)
    assert answer.status == 1
    assert "the site 'a' cannot be fetched from" in answer.out
    assert "answers with a web page" in answer.out
    answer = world.reconcile("b")
    assert answer.status == 1
    assert "answers with a web page" in answer.out + answer.err
    assert "inflate" not in answer.out + answer.err
    assert world["b"].at() != first


def test_a_site_behind_a_web_page_does_not_count_as_one_without_refs(world: Group, page: str) -> None:
    world.install("a", "b")
    world["a"].piehole("install", "--url", f"{page}/project.git")
    answer = world["b"].piehole("clobber", "--newest", "--yes", check=False)
    assert answer.status == 1
    assert "not every site can be asked" in answer.err
    assert "answers with a web page" in answer.err


def test_check_calls_a_web_page_at_an_etcd_endpoint_what_it_is(world: Group, page: str) -> None:
    world.install("a")
    answer = world["a"].piehole("check", "--etcd", f"{world.etcd.endpoint},{page}", check=False)
    assert answer.status == 1
    (fault,) = (line for line in answer.out.splitlines() if page in line)
    assert "does not speak etcd's v3 JSON" in fault
    assert "something else answers" in fault
