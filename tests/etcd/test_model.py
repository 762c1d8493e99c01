from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piehole.errors import NoAccess, UsageError
from piehole.etcd.endpoint import Credentials, Endpoint
from piehole.etcd.model import prefix_end

some_bytes = st.lists(st.sampled_from([b"\x00", b"a", b"/", b"\x7f", b"\xc3", b"\xff"]), max_size=6).map(b"".join)


@given(some_bytes, some_bytes)
def test_a_key_is_in_the_range_of_a_prefix_exactly_when_it_begins_with_it(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    in_range = key >= prefix and (end == b"\0" or key < end)
    assert in_range == key.startswith(prefix)


@given(some_bytes, some_bytes)
def test_nothing_below_a_prefix_is_outside_of_its_range(prefix: bytes, rest: bytes) -> None:
    end = prefix_end(prefix)
    assert end == b"\0" or prefix + rest < end


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:2379", "http://127.0.0.1:2379"),
        ("http://etcd-1.example:2379/", "http://etcd-1.example:2379"),
        (" https://etcd:443 ", "https://etcd:443"),
        ("[::1]:2379", "http://[::1]:2379"),
        ("https://[fe80::1]:2379", "https://[fe80::1]:2379"),
    ],
)
def test_an_endpoint_is_read_in_each_documented_form(text: str, url: str) -> None:
    assert str(Endpoint.parse(text)) == url


@pytest.mark.parametrize(
    "text", ["", "etcd", "etcd:", "etcd:0", "etcd:65536", "ftp://etcd:1", "http://etcd:1/v3", "::1:2379", "a b:1"]
)
def test_another_form_is_refused_with_the_form_that_is_right(text: str) -> None:
    with pytest.raises(UsageError, match="write http://HOST:PORT or https://HOST:PORT"):
        Endpoint.parse(text)


def test_a_password_in_an_endpoint_is_not_repeated() -> None:
    with pytest.raises(UsageError) as refused:
        Endpoint.parse("http://user:hush@etcd:2379")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "half", [{"cert": "c"}, {"key": "k"}, {"user": "u"}, {"password_file": "p"}], ids=lambda half: next(iter(half))
)
def test_half_a_credential_is_refused(half: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="belong together"):
        Credentials(**half)


def test_the_password_is_read_anew_each_time_without_its_newline(tmp_path: Path) -> None:
    file = tmp_path / "password"
    credentials = Credentials(user="u", password_file=str(file))
    file.write_text("old\n")
    assert credentials.password() == "old"
    file.write_text("new word \r\n")
    assert credentials.password() == "new word "


def test_a_password_that_cannot_be_read_is_no_access(tmp_path: Path) -> None:
    with pytest.raises(NoAccess, match=r"cannot read the etcd credential .*nowhere: No such file"):
        Credentials(user="u", password_file=str(tmp_path / "nowhere")).password()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(NoAccess, match="not UTF-8"):
        Credentials(user="u", password_file=str(tmp_path / "binary")).password()


def test_the_light_modules_do_not_load_etcd3gw() -> None:
    program = (
        "import sys, piehole.etcd, piehole.etcd.model, piehole.etcd.endpoint;"
        "print(sorted({'etcd3gw', 'requests', 'structlog', 'tenacity'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
