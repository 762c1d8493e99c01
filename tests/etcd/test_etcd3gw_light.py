"""etcd3gw without what its import loads and piehole does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.etcd import EtcdProcess
from tests.support.ports import free_ports


def _run(script: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_neither_requests_nor_futurist_is_loaded() -> None:
    loaded = _run(
        "import sys, piehole.etcd.client; print(sorted({'asyncio', 'futurist', 'requests', 'urllib3'} & set(sys.modules)))"
    )
    assert loaded == "[]"


def test_no_request_loads_them_whether_it_is_answered_or_not(etcd: EtcdProcess) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    loaded = _run(
        "import sys\n"
        "from piehole.deadline import Deadline\n"
        "from piehole.errors import EtcdError\n"
        "from piehole.etcd.client import Etcd\n"
        f"assert Etcd(['{etcd.endpoint}']).range(b'x', deadline=Deadline(10)).revision\n"
        f"for endpoint, key, at in (('{nobody}', b'x', 0), ('{etcd.endpoint}', b'x', 1 << 40)):\n"
        "    try:\n        Etcd([endpoint]).range(key, revision=at, deadline=Deadline(0.5))\n"
        "    except EtcdError:\n        continue\n"
        "    raise AssertionError(endpoint)\n"
        "print(sorted({'asyncio', 'futurist', 'requests', 'urllib3'} & set(sys.modules)))"
    )
    assert loaded == "[]"


@pytest.mark.parametrize("first", ["", "import requests, futurist; "])
def test_whoever_needs_them_has_them_whole(first: str) -> None:
    """etcd3gw's own session among them."""
    script = (
        f"{first}import piehole.etcd.etcd3gw_light\n"
        "import etcd3gw, futurist, requests, requests.adapters\n"
        "from etcd3gw.utils import _get_threadpool_executor\n"
        "print(_get_threadpool_executor() is futurist.ThreadPoolExecutor, requests.codes['ok'])\n"
        "try:\n    etcd3gw.Etcd3Client('127.0.0.1', 1).status()\n"
        "except etcd3gw.exceptions.ConnectionFailedError:\n    print('refused')\n"
    )
    assert _run(script).split() == ["True", "200", "refused"]
