"""`piehole doctor`: what a report holds, that no secret is in it, and that it is made while everything else fails."""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from piehole.commands import doctor, doctor_parts
from piehole.commands.doctor_parts import ReportRequest, clocks_that_differ
from piehole.commands.secrets import Cleaner
from piehole.group import ref_log
from tests.cli.terminal import Terminal
from tests.support.command_line import piehole, piehole_in_process
from tests.support.git import git
from tests.support.groups import Group

# Lines as logs, units and peers have them. Every one holds the secret "hunter2", and "seen" so that a test knows that it was collected.
PLANTED = (
    "seen fetch of https://deploy:hunter2@oslo.example.org/a.git failed",
    "seen fetch of https://deploy:pa/ss@hunter2@oslo.example.org/a.git failed",
    "seen GET http://h:1/x?token=hunter2&sig=hunter2",
    "seen Authorization: Basic aHVudGVy hunter2",
    'seen {"headers": {"Proxy-Authorization": "Bearer hunter2", "cookie": "sid=hunter2"}}',
    r'seen {"said": "{\"password\": \"hunter2 with spaces\"}"}',
    "seen the header was Bearer hunter2hunter2",
    "seen etcd_password=hunter2 retry=1",
    "seen Environment=ETCD_PASSWORD=hunter2",
    "seen etcdctl --user root --password hunter2 get /piehole",
    "seen etcdctl --user root:hunter2 get /piehole",
    "seen machine oslo.example.org login deploy password hunter2",
    "seen deploy:hunter2@oslo.example.org:a.git",
    "seen access_key = hunter2",
    "seen client_secret: 'hunter2 and more'",
    "seen ghp_hunter2hunter2hunter2 and eyJhbGciOiJIUzI1.hunter2.hunter2",
    "seen key ssh-ed25519 AAAAhunter2 hunter2 on a laptop",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\nhunter2==\n-----END OPENSSH PRIVATE KEY-----",
    r"seen {'key': '-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----'}",
)
PEOPLE = (
    '{"event": "push", "pusher": "Alice Example"}',
    "push pusher='Alice Example' ref=refs/heads/Alice Example/x",
    "write to alice@example.org, or look into /home/alice/.ssh",
)


def files(bundle: Path) -> dict[str, str]:
    if bundle.suffix == ".zip":
        with zipfile.ZipFile(bundle) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}
    with tarfile.open(bundle) as archive:
        found = {one.name: archive.extractfile(one) for one in archive.getmembers()}
        return {name: file.read().decode() for name, file in found.items() if file}


def program(folder: Path, name: str, prints: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\ncat <<'NO_SUCH_LINE'\n{prints}\nNO_SUCH_LINE\n")
    (folder / name).chmod(0o755)


def test_no_secret_of_any_place_that_is_collected_is_in_the_report(pair: Group, tmp_path: Path) -> None:
    a = pair["a"].repository
    text = "\n".join((*PLANTED, *PEOPLE))
    for name in ("journalctl", "systemctl", "timedatectl", "free"):
        program(tmp_path / "bin", name, f"{name} {text}")
    (tmp_path / "password").write_text("hunter2\n")
    for name, value in {
        "piehole.url": "https://deploy:hunter2@seen.example.org/a.git",
        "piehole.etcdToken": "hunter2",  # no setting: nobody knows what it holds
        "piehole.exclude": "refs/?token=hunter2",
        "http.extraHeader": "Authorization: Bearer hunter2",
    }.items():
        git(a, "config", "--add", name, value)
    git(a, "config", "piehole.etcdUser", "oslo")
    git(a, "config", "piehole.etcdPasswordFile", str(tmp_path / "password"))
    record = {"id": "1", "url": "https://deploy:hunter2@rome.example.org/seen.git"}
    pair.etcd.put(f"{pair.prefix}/site/g/rome", json.dumps(record))
    of_b = f"{pair.prefix}/progress/g/b"
    pair.etcd.put(of_b, json.dumps(json.loads(pair.etcd.get(of_b) or "") | {"time": "2999-01-01T00:00:00+00:00"}))
    pair.etcd.put(pair.key("refs/heads/closed"), "closed: password=hunter2 asked by alice@example.org")
    entry = ref_log.LogEntry(1, "refs/heads/main", "", "", "a", "Alice Example <alice@example.org>", "", "seen")
    ref_log.append(a, [entry])
    (a / "hooks" / "post-update").write_text("#!/bin/sh\n# hunter2\n")
    (a / "piehole" / "token=hunter2").touch()
    bundle = tmp_path / "report.tar.gz"
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    answer = piehole("doctor", "-C", a, bundle, "--yes", "--show", env={**os.environ, "PATH": path})
    assert answer.status == 0, answer
    found = files(bundle)
    for where, what in {**found, "what is shown": answer.out + answer.err}.items():
        for secret in ("hunter2", "Alice", "alice", "ss@"):
            assert secret not in where + what, where
    of = {name.partition("/")[2]: what for name, what in found.items()}
    for name in ("controller-log.txt", "units.txt", "machine.txt"):
        assert of[name].count("seen") >= len(PLANTED) - 1, name
    here = f"01-{a.name}"
    assert "seen" in json.loads(of[f"{here}/ref-log.jsonl"].splitlines()[-1])["kind"]
    assert "seen.example.org" in of[f"{here}/config.json"]
    assert "piehole.etcdtoken" in of[f"{here}/config.json"]
    assert str(tmp_path / "password") in of[f"{here}/config.json"]
    assert "seen.git" in of[f"{here}/sites.json"]
    assert "closed" in of[f"{here}/status.json"]
    assert "post-update: foreign" in of[f"{here}/hooks.txt"]
    assert "removed)" in of[f"{here}/disk.txt"]
    for name in ("config", "status", "check", "sites"):
        assert json.loads(of[f"{here}/{name}.json"])["format"] == 1
    assert '"version": "3.' in of[f"{here}/etcd.json"]
    assert "refs/heads: 1" in of[f"{here}/refs.txt"]
    assert re.search(r"a: its last record is of \+\d+ s ago", of[f"{here}/clocks.txt"])
    assert "b: its clock is ahead of this machine's" in of[f"{here}/clocks.txt"]
    assert "hash" not in of["README.txt"]
    assert bundle.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", PLANTED)
def test_each_kind_of_secret_is_taken_out_and_counted(line: str) -> None:
    cleaner = Cleaner([line], names=True, hosts=True)
    cleaned = cleaner.clean(f"before\n{line}\nafter hunt")
    assert "hunter2" not in cleaned
    assert (cleaned.startswith("before\n"), cleaned.endswith("after hunt")) == (True, True)
    assert sum(cleaner.removed.values()) >= 1


def test_no_text_takes_long_whatever_others_have_written() -> None:
    begun = time.process_time()
    for part in (
        *'a"\\',
        "a:",
        "a.",
        "://",
        "a@",
        "u:p@",
        "?a=",
        "password",
        'password="',
        "token=",
        "x-",
        "login ",
        "-u a",
        "Basic ",
        "eyJaaaaaaaa.",
    ):
        text = part * (65536 // len(part))
        Cleaner([text], names=False, hosts=False).clean(text)
    assert time.process_time() - begun < 10  # one expression that looks at each pair of letters takes longer alone


def test_what_is_no_secret_stays() -> None:
    text = (
        'piehole.etcdPasswordFile = /etc/piehole/pw\n{"token": "no-quorum", "passwordFile": "/x"}\n'
        "etcd: invalid auth token was given\nThe token is old. See refs/heads/secret-garden\n"
    )
    assert Cleaner([text], names=False, hosts=True).clean(text) == text


def test_a_person_and_a_host_have_one_pseudonym_in_all_files() -> None:
    texts = [
        *PEOPLE,
        '{"pusher": "Bj\\u00f6rn"}',
        "Björn pushed",
        "ssh://git@oslo.example.org/a.git",
        "at oslo.example.org 10.1.2.3",
    ]
    cleaner = Cleaner(texts, names=False, hosts=False, own_hosts=["laptop"])
    cleaned = [cleaner.clean(text) for text in (*texts, "on laptop")]
    person, host = re.findall(r"person-\d+", cleaned[0]), re.findall(r"host-\d+", cleaned[5])
    assert cleaned[1] == f"push pusher='{person[0]}' ref=refs/heads/{person[0]}/x"
    assert re.findall(r"person-\d+", cleaned[3]) == re.findall(r"person-\d+", cleaned[4])
    assert re.fullmatch(rf"at {host[0]} host-\d+", cleaned[6])
    assert re.fullmatch(r"on host-\d+", cleaned[7])
    kept = Cleaner(texts, names=True, hosts=True)
    assert [kept.clean(text) for text in texts[:2]] == texts[:2]


@pytest.mark.slow  # each command waits for etcd
def test_it_is_made_while_etcd_the_repository_and_the_log_are_away(pair: Group, tmp_path: Path) -> None:
    a, b = pair["a"].repository, pair["b"].repository
    git(a, "config", "piehole.etcd", "127.0.0.1:1")
    (b / "HEAD").unlink()
    bundle = tmp_path / "report.zip"
    answer = piehole("doctor", a, b, tmp_path / "none.git", bundle, "--log", tmp_path / "no.log", "--yes")
    assert answer.status == 0, answer
    found = {name.partition("/")[2]: what for name, what in files(bundle).items()}
    summary = found["README.txt"]
    assert re.search(r"01-\S+/status\.json .*exit status 3", summary)
    assert re.search(r"02-\S+/check\.json .*exit status [12]", summary)
    assert re.search(r"03-none\.git/disk\.txt .*not collected: FileNotFoundError", summary)
    assert re.search(r"controller-log\.txt .*not collected: there is no file", summary)
    assert "No etcd endpoint answered" in found[f"01-{a.name}/check.json"] + summary
    assert "refs/heads: 1" in found[f"01-{a.name}/refs.txt"]
    assert found[f"01-{a.name}/clocks.txt"] == "no record says when it was written\n"
    assert "Traceback" not in "".join(found.values()) + answer.out + answer.err


def test_nothing_is_overwritten_and_nothing_is_written_unasked(
    pair: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "all_parts", lambda *_: {"log.txt": lambda: "one"})
    there = tmp_path / "there.zip"
    there.write_text("mine")
    for name, status, words in (
        ("there.zip", 1, "nothing is overwritten"),
        ("report.txt", 2, "let it end with .tar.gz or .zip"),
        ("none/report.zip", 1, "no file can be made in"),
        ("report.zip", 1, "Use --yes"),
    ):
        answer = piehole_in_process("doctor", "-C", pair["a"].repository, tmp_path / name)
        assert (answer.status, words in answer.err) == (status, True), answer
    with pytest.raises(FileExistsError):  # it was made while the report was collected
        doctor.write(doctor.FaultReport([], {}), there)
    assert there.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["there.zip"]


def test_at_a_terminal_it_lists_the_files_and_asks(tmp_path: Path) -> None:
    bundle = tmp_path / "report.tgz"
    for answer, made in (("n", False), ("y", True)):
        with Terminal("doctor", bundle, "--log", tmp_path / "no.log") as terminal:
            terminal.sees("versions.txt  ")
            terminal.sees("no repository is in it: ")
            terminal.sees(f"Write this to {bundle}? [y/N]")
            terminal.types(answer)
            assert terminal.end() == (0 if made else 1)
        assert bundle.exists() is made


def test_a_part_that_is_large_or_fails_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> str:
        raise RuntimeError("a bug: password=hunter2")

    lines = "".join(f"line {number}\n" for number in range(100_000))
    parts = {"a-log.txt": lambda: lines, "b.json": lambda: lines, "c.txt": fails}
    monkeypatch.setattr(doctor, "all_parts", lambda *_: parts)
    report = doctor.collect(ReportRequest([Path("/a.git")] * (doctor_parts.MOST + 1)))
    summary, log, head, failed, left_out = report.parts
    assert log.text.endswith("line 99999\n")
    assert head.text.startswith("line 0\n")
    assert max(len(log.text), len(head.text)) <= doctor_parts.LARGEST
    assert failed.note == "not collected: RuntimeError: a bug: password=(removed)"
    assert left_out.text == "/a.git\n"
    assert all(one.name in summary.text and one.note in summary.text for one in report.parts[1:])


def test_clocks_differ_where_a_later_push_has_an_earlier_time() -> None:
    assert clocks_that_differ([("oslo", 10.0), ("rome", 4.5), ("oslo", 11.0), ("rome", 8.0)]) == [
        "rome: its clock was behind that of oslo by 5.5 s or more"
    ]
    assert clocks_that_differ([("oslo", 10.0), ("oslo", 9.0), ("rome", 12.0)]) == []
