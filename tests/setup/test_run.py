"""Walking through steps: what is done, asked, kept and said; and going on after a kill at any effect."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from piehole.commands.setup import access_steps, run
from piehole.commands.setup.file_parts import BlockIs, FileIs, FileThere
from piehole.commands.setup.machine import CannotSee, Machine
from piehole.commands.setup.parts import CommandDone, ProgramsAreThere, ServiceRuns, SetupStep, WaitUntil
from piehole.errors import PieholeError
from tests.setup.settings import settings

OWNER = f"{pwd.getpwuid(os.geteuid()).pw_name}:{grp.getgrgid(os.getegid()).gr_name}"


class Killed(BaseException):
    """What a test does to setup between two effects."""


class TrialMachine(Machine):
    """A folder of this machine, with a service that remembers what it has read; each effect may be the last one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda _: None, folder / "record.json")
        self.folder = folder
        self.effects = 0
        self.ends_at = -1
        self.commands: list[str] = []

    @property
    def has_systemd(self) -> bool:
        return True

    def effect(self) -> None:
        self.effects += 1
        if self.effects == self.ends_at:
            raise Killed

    def write(self, path: Path, content: bytes, mode: int, owner: str) -> None:
        self.effect()
        super().write(path, content, mode, owner)
        self.effect()

    def _remember(self, **fields: object) -> None:
        self.effect()
        super()._remember(**fields)
        self.effect()

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "",
        check: bool = True,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        if argv[0] != "systemctl":
            return super().run(argv, user=user, check=check, stdin=stdin, env=env, timeout=timeout)
        verb, unit = argv[1], argv[-1]
        runs, enabled = self.folder / f"{unit}.runs", self.folder / f"{unit}.enabled"
        if verb.startswith("is-"):
            there = (runs if verb == "is-active" else enabled).exists()
            return subprocess.CompletedProcess(argv, 0 if there else 3, "", "")
        self.effect()
        self.commands.append(" ".join(argv))
        if verb == "enable":
            enabled.touch()
        elif verb == "restart":
            runs.write_bytes(b"".join(file.read_bytes() for file in sorted(self.folder.glob("*.conf"))))
        self.effect()
        return subprocess.CompletedProcess(argv, 0, "", "")


class Answers:
    """An administrator who answers as told, and what they have read."""

    def __init__(self, *, steps: bool = True, files: bool = False) -> None:
        self._steps = steps
        self._files = files
        self.read: list[str] = []

    def tell(self, line: str) -> None:
        self.read.append(line)

    def ask_step(self, step: SetupStep) -> bool:
        self.read.append(f"? {step.name}")
        return self._steps

    def ask_file(self, file: FileIs, difference: Sequence[str]) -> bool:
        self.read += [f"? {file.path.name}", *difference]
        return self._files

    @property
    def text(self) -> str:
        return "\n".join(self.read)


@pytest.fixture
def machine(tmp_path: Path) -> TrialMachine:
    return TrialMachine(tmp_path)


def _steps(folder: Path, text: str = "new") -> list[SetupStep]:
    conf = [FileIs(folder / f"{name}.conf", f"{name} {text}\n".encode(), 0o640, OWNER, ("daemon",)) for name in "ab"]
    return [
        SetupStep("files", "Because", (*conf, BlockIs(folder / "keys", (text,), 0o600, OWNER, "users"))),
        SetupStep("service", "Because", (ServiceRuns("daemon", "", "daemon"),)),
    ]


def _tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mode & 0o7777, path.read_bytes())
        for path in sorted(folder.iterdir())
        if path.name != "record.json"
    }


def test_a_second_run_asks_nothing_and_has_no_effect(machine: TrialMachine) -> None:
    assert run.perform(_steps(machine.folder), machine, Answers())
    before, record = _tree(machine.folder), (machine.folder / "record.json").read_bytes()
    machine.effects = 0
    again = Answers()
    assert run.perform(_steps(machine.folder), machine, again)
    assert (machine.effects, _tree(machine.folder), (machine.folder / "record.json").read_bytes()) == (
        0,
        before,
        record,
    )
    assert again.read == ["[1/2] files: done already", "[2/2] service: done already"]


def test_each_step_is_shown_with_its_reason_and_what_it_does_before_it_is_asked_for(machine: TrialMachine) -> None:
    admin = Answers(steps=False)
    assert not run.perform(_steps(machine.folder), machine, admin)
    assert machine.effects == 0, "whoever answers no gets nothing"
    shown = admin.read[: admin.read.index("? files")]
    assert shown[:2] == ["[1/2] files", "    Because."]
    assert f"    - {machine.folder}/a.conf does not exist -> write it ({OWNER}, 0640)" in shown
    assert "not done: service. Run `piehole setup` again when it is, or to do it." in admin.read


@pytest.mark.parametrize("from_nothing", [True, False], ids=["from nothing", "to newer files"])
def test_killed_at_any_effect_the_next_run_does_the_rest(tmp_path: Path, from_nothing: bool) -> None:
    (tmp_path / "whole").mkdir()
    whole = TrialMachine(tmp_path / "whole")
    run.perform(_steps(whole.folder), whole, Answers())
    assert whole.effects > 15
    for at in range(1, whole.effects + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        machine = TrialMachine(folder)
        if not from_nothing:
            assert run.perform(_steps(folder, "old"), machine, Answers())
        machine.ends_at = machine.effects + at
        try:
            run.perform(_steps(folder), machine, Answers())
        except Killed:
            pass
        machine.ends_at = -1
        assert run.perform(_steps(folder), machine, Answers()), at
        assert _tree(folder) == _tree(whole.folder), f"killed at effect {at}"


def test_a_file_that_an_administrator_has_changed_is_shown_and_kept(machine: TrialMachine) -> None:
    run.perform(_steps(machine.folder), machine, Answers())
    (machine.folder / "a.conf").write_text("a new\nmine\n")
    admin = Answers(files=False)
    assert run.perform(_steps(machine.folder, "newer"), machine, admin)
    assert (machine.folder / "a.conf").read_text() == "a new\nmine\n"
    assert (machine.folder / "b.conf").read_text() == "b newer\n", "what setup itself wrote is brought up to date"
    for line in ("? a.conf", "-mine", "-a new", "+a newer"):
        assert line in admin.read, admin.text


def test_a_file_that_is_replaced_after_a_yes_leaves_a_copy(machine: TrialMachine) -> None:
    run.perform(_steps(machine.folder), machine, Answers())
    (machine.folder / "a.conf").write_text("mine\n")
    (machine.folder / "a.conf").chmod(0o600)
    assert run.perform(_steps(machine.folder), machine, Answers(files=True))
    assert (machine.folder / "a.conf").read_text() == "a new\n"
    (copy,) = machine.folder.glob("a.conf.*.before-piehole-setup")
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == ("mine\n", 0o600)
    assert machine.commands[-1] == "systemctl restart daemon"


def test_a_file_that_was_there_before_setup_is_an_administrators(machine: TrialMachine) -> None:
    (machine.folder / "a.conf").write_text("theirs\n")
    run.perform(_steps(machine.folder), machine, Answers())
    assert (machine.folder / "a.conf").read_text() == "theirs\n"


def test_a_secret_is_not_shown(machine: TrialMachine) -> None:
    (machine.folder / "key").write_text("old hush")
    step = SetupStep("keys", "Because", (FileIs(machine.folder / "key", b"new hush", 0o400, OWNER, secret=True),))
    admin = Answers(files=True)
    run.perform([step], machine, admin)
    assert "hush" not in admin.text


def test_lines_of_others_in_a_shared_file_stay(machine: TrialMachine) -> None:
    keys = machine.folder / "keys"
    keys.write_text("theirs\n# no newline at the end")
    for lines in (("one", "two"), ("two",), ()):
        part = BlockIs(keys, lines, 0o600, OWNER, "users")
        run.perform([SetupStep("keys", "Because", (part,))], machine, Answers())
        assert part.lacking(machine) == ""
        kept = [line for line in keys.read_text().splitlines() if not line.startswith("# piehole")]
        assert kept == ["theirs", "# no newline at the end", *lines]
        with keys.open("a") as file:
            file.write("more\n")
        kept = keys.read_text().splitlines()
        keys.write_text("".join(f"{line}\n" for line in kept if line != "more"))


def test_check_says_what_is_missing_and_changes_nothing(machine: TrialMachine) -> None:
    said: list[str] = []
    assert not run.check(_steps(machine.folder), machine, said.append)
    assert f"missing: files: {machine.folder}/a.conf does not exist" in said
    assert said[-1] == "4 parts are missing"
    assert (machine.effects, _tree(machine.folder)) == (0, {})
    run.perform(_steps(machine.folder), machine, Answers())
    (machine.folder / "b.conf").write_text("mine\n")
    said.clear()
    assert run.check(_steps(machine.folder), machine, said.append)
    assert said == [
        f"note: files: {machine.folder}/b.conf was changed by an administrator, and stays so",
        "nothing is missing",
    ]


def test_what_an_account_cannot_see_is_no_fault(machine: TrialMachine) -> None:
    def hidden(_: Machine) -> bool:
        raise CannotSee("/etc/shadow can be read only by root")

    said: list[str] = []
    step = SetupStep("accounts", "Because", (CommandDone("locked", ("true",), hidden),))
    assert run.check([step], machine, said.append)
    assert said[0] == "note: accounts: /etc/shadow can be read only by root: not examined"


def test_what_setup_cannot_do_is_said_and_the_other_steps_are_done(machine: TrialMachine) -> None:
    key = FileThere(machine.folder / "ca.pem", 0o644, OWNER, "`piehole setup --keys` makes it")
    steps = [SetupStep("keys", "Because", (key,)), *_steps(machine.folder)]
    admin = Answers()
    assert not run.perform(steps, machine, admin)
    assert f"    to do by hand: {machine.folder}/ca.pem is needed: `piehole setup --keys` makes it" in admin.read
    assert (machine.folder / "daemon.runs").exists()


def test_waiting_in_vain_says_for_what_and_what_may_be_in_the_way(machine: TrialMachine) -> None:
    wait = WaitUntil("etcd answers", lambda _: "no leader", 0.0, lambda: ["Nobody answers at lima:2380"])
    with pytest.raises(PieholeError, match=r"until etcd answers: no leader\. Nobody answers at lima:2380"):
        run.perform([SetupStep("majority", "Because", (wait,))], machine, Answers())


def test_a_damaged_record_is_said_with_what_to_do(machine: TrialMachine) -> None:
    (machine.folder / "record.json").write_text("{")
    with pytest.raises(PieholeError, match="Remove it"):
        run.perform(_steps(machine.folder), machine, Answers())


class WithoutSystemd(TrialMachine):
    @property
    def has_systemd(self) -> bool:
        return False


def test_without_systemd_it_is_said_how_to_start_a_service_by_hand(tmp_path: Path) -> None:
    machine = WithoutSystemd(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        part = ServiceRuns("daemon", f"127.0.0.1:{port}", "run `daemon` as git")
        assert part.lacking(machine) == "", "it answers, so somebody has started it"
    admin = Answers()
    assert not run.perform([SetupStep("service", "Because", (part,))], machine, admin)
    assert "run `daemon` as git" in admin.text
    assert machine.commands == []


class WithDebian(TrialMachine):
    """A machine on which a package brought the file a.conf, and there is no apt-get."""

    brought = b"as Debian has it\n"

    @staticmethod
    def program(name: str) -> str | None:
        return f"/usr/bin/{name}" if name == "dpkg-query" else None

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if argv[0] != "dpkg-query":
            return super().run(argv, **options)
        file = self.folder / "a.conf"
        found = hashlib.md5(self.brought, usedforsecurity=False).hexdigest()
        out = f"daemon: {file}\n" if argv[1] == "--search" else f"\n {file} {found}\n"
        return subprocess.CompletedProcess(argv, 0, out, "")


@pytest.mark.parametrize(("content", "after"), [(b"as Debian has it\n", "a new\n"), (b"mine\n", "mine\n")])
def test_a_file_that_a_package_brought_is_replaced_unless_it_was_changed(
    tmp_path: Path, content: bytes, after: str
) -> None:
    machine = WithDebian(tmp_path)
    (tmp_path / "a.conf").write_bytes(content)
    run.perform(_steps(tmp_path), machine, Answers())
    assert (tmp_path / "a.conf").read_text() == after


def test_programs_that_cannot_be_installed_are_named_with_their_packages(tmp_path: Path) -> None:
    admin = Answers()
    part = ProgramsAreThere((("nginx", "nginx-light"), ("etcd", "etcd-server")))
    assert not run.perform([SetupStep("programs", "Because", (part,))], WithDebian(tmp_path), admin)
    assert "there is no program nginx, etcd" in admin.text
    assert "(the names are those of Debian's packages): nginx-light etcd-server" in admin.text


def test_ports_that_nobody_answers_at_are_named_with_the_rule_for_the_firewall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_steps, "answers", lambda probe: not probe.startswith("lima"))
    (said,) = access_steps.closed_ports(settings())
    assert "Nobody answers at lima.example.org:2379, lima.example.org:2380, lima.example.org:443." in said
    assert (
        "`nft add rule inet filter input ip saddr '{ 192.0.2.11, 192.0.2.12 }' tcp dport '{ 2379, 2380, 443 }' accept`"
        in said
    )
    assert "ip6 saddr '{ 2001:db8::13 }'" in said
