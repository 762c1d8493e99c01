"""A site that cannot fetch any more: who is told, where, and by the exit status of which command."""

from __future__ import annotations

import pytest

from tests.support.assertions import accepted
from tests.support.git import MAIN, git, push
from tests.support.groups import MakeGroup
from tests.support.sshd import SshServer
from tests.support.wait import PATIENCE, until


@pytest.mark.slow
def test_a_site_whose_key_was_revoked_is_told_at_every_site(make_group: MakeGroup, sshd: SshServer) -> None:
    group = make_group(3, url=sshd.url_for, settings={"core.sshCommand": sshd.git_ssh_command})
    a, b, _ = group
    oid = group.commit("one")
    accepted(push(group.work, a.repository, "HEAD:main"))
    group.arrives(MAIN, oid)
    group.published()
    until(lambda: a.piehole("status", check=False).status == 0, PATIENCE, "all is well")
    # b's key is taken out of the authorized keys of a and c: for these tests, it is another key.
    other = sshd.folder / "revoked"
    other.mkdir(exist_ok=True)
    config = sshd.ssh_config.read_text().replace("user_key", "host_key")  # a key that nobody has authorized
    (other / "ssh_config").write_text(config)
    git(b.repository, "config", "core.sshCommand", f"ssh -F {other / 'ssh_config'}")
    # Before anything is pushed, check says so at b.
    checked = b.piehole("check", check=False)
    assert checked.status == 1
    for name in "ac":
        assert "Permission denied" in checked.line(f"fault: the site '{name}' cannot be fetched from")
    oid = group.commit("two")
    accepted(push(group.work, a.repository, "HEAD:main"))
    b.wait_event("peer.failed", PATIENCE)
    # At b: status, with the reason. At every other site: status, too. Each is one line in a cron's mail, and status 1.
    until(lambda: "Permission denied" in b.piehole("status", check=False).out, PATIENCE, "b says why it is behind")
    assert b.piehole("status", check=False).status == 1
    for site in (a, group[2]):
        answer = site.piehole("status", check=False)
        assert answer.status == 1
        assert "behind by 1 ref" in answer.line("site b: ")
    git(b.repository, "config", "core.sshCommand", sshd.git_ssh_command)
    group.arrives(MAIN, oid)
