"""A headless Chromium of the test, driven by its own protocol over two pipes: no driver, no port, no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from tests.support.process import descendants, dies_with_parent, send_signal
from tests.support.servers import Unavailable

_PATIENCE = 30.0  # seconds; a browser that starts beside other tests is slow
_FLAGS = (
    "--headless",
    "--no-sandbox",  # tests run as root in CI
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class PageFault(AssertionError):
    """The page threw an error, or the browser refused a command."""


class Chromium:
    """One browser process. It ends with the ``with`` block that :func:`chromium` is used in."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("chromium")
        if program is None:
            raise Unavailable("no chromium on PATH (Debian: apt-get install chromium)")
        to_browser, self._out = _pipe()
        self._in, from_browser = _pipe()
        argv = [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        # The browser expects the pipes as its descriptors 3 and 4.
        shell = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            dies_with_parent(["bash", "-c", shell, *argv]),
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder)},
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number = 0
        self._lock = threading.Lock()
        self._answers: dict[int, Queue[dict[str, Any]]] = {}
        self._events: dict[str, Queue[dict[str, Any]]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command and its result.

        :raises PageFault: the browser refused it, or does not answer
        """
        with self._lock:
            self._number += 1
            number = self._number
            answer = self._answers[number] = Queue()
            message = {"id": number, "method": method, "params": parameters}
            data = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
            while data:
                data = data[os.write(self._out, data) :]
        try:
            found = answer.get(timeout=_PATIENCE)
        except Empty:
            raise PageFault(f"the browser does not answer {method}") from None
        finally:
            del self._answers[number]
        if "error" in found:
            raise PageFault(f"{method}: {found['error']}")
        result: dict[str, Any] = found["result"]
        return result

    def events(self, session: str) -> Queue[dict[str, Any]]:
        return self._events.setdefault(session, Queue())

    def end(self) -> None:
        below = descendants(self._process.pid)
        self._process.kill()
        self._process.wait()
        for pid in below:
            send_signal(pid, signal.SIGKILL)
        self._reader.join()
        os.close(self._out)
        os.close(self._in)

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._in, 1 << 20):
            *messages, rest = (rest + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]].put(message)
                else:
                    self.events(message.get("sessionId", "")).put(message)


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors are neither 3 nor 4."""
    ends = os.pipe()
    moved = fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(ends[1], fcntl.F_DUPFD_CLOEXEC, 10)
    for end in ends:
        os.close(end)
    return moved


class Tab:
    """One page of the browser."""

    def __init__(self, browser: Chromium) -> None:
        self._browser = browser
        self._target: str = browser.send("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.send("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session: str = attached["sessionId"]
        self._events = browser.events(self._session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.faults: list[str] = []
        self.faults_allowed = False  # a test expects some
        self.requested: list[str] = []

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.send(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go there; the page's scripts have run, but may wait for answers."""
        self._drain()
        found = self.send("Page.navigate", url=url)
        if "errorText" in found:
            raise PageFault(f"{url}: {found['errorText']}")
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited.

        :raises PageFault: it threw
        """
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise PageFault(f"{script[:200]}: {found['exceptionDetails'].get('exception', found['exceptionDetails'])}")
        return found["result"].get("value")

    def until(self, condition: str, timeout: float = 20.0) -> Any:
        """Wait in the page until an expression holds; its value."""
        end = time.monotonic() + timeout
        while True:
            try:
                value = self.run(condition)
            except PageFault:  # the document is being replaced
                value = None
                if time.monotonic() > end:
                    raise
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(
                    f"not within {timeout} s: {condition}\n{self.run('document.body.innerText')[:3000]}"
                )
            time.sleep(0.05)

    def text(self, selector: str = "body") -> str:
        """What a reader sees of an element; ``""`` where there is none."""
        found: str = self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return found

    def press(self, key: str, *, shift: bool = False) -> None:
        """One key, as a person presses it: ``Tab``, ``Enter``, ``/`` or a letter."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40, "ArrowUp": 38}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        common = {
            "key": key,
            "code": {" ": "Space"}.get(key, key),
            "windowsVirtualKeyCode": codes.get(key, ord(key.upper()[0])),
            "modifiers": 8 if shift else 0,
        }
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def size(self, width: int, height: int, *, scale: float = 1) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 500,
        )  # fmt: skip

    def media(self, **features: str) -> None:
        """``media(prefers_color_scheme="dark")``."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=named)

    def scripts(self, enabled: bool) -> None:
        self.send("Emulation.setScriptExecutionDisabled", value=not enabled)

    def picture(self, file: Path) -> None:
        data = self.send("Page.captureScreenshot", format="png", optimizeForSpeed=False)["data"]
        file.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self._browser.send("Target.closeTarget", targetId=self._target)

    def complaints(self) -> list[str]:
        """What the browser has complained about since: errors of scripts, refusals by the Content-Security-Policy."""
        self._drain()
        return self.faults

    def _drain(self) -> None:
        while True:
            try:
                event: Mapping[str, Any] = self._events.get_nowait()
            except Empty:
                return
            found = event.get("params", {})
            match event["method"]:
                case "Runtime.exceptionThrown":
                    self.faults.append(json.dumps(found["exceptionDetails"]))
                case "Log.entryAdded" if found["entry"]["level"] == "error":
                    self.faults.append(f"{found['entry']['text']} {found['entry'].get('url', '')}")
                case "Runtime.consoleAPICalled" if found["type"] in ("error", "assert"):
                    self.faults.append(json.dumps(found["args"]))
                case "Network.requestWillBeSent":
                    self.requested.append(found["request"]["url"])


@contextmanager
def chromium(folder: Path) -> Iterator[Chromium]:
    """A browser with its profile in this folder.

    :raises Unavailable: there is none on this machine
    """
    browser = Chromium(folder)
    try:
        yield browser
    finally:
        browser.end()
