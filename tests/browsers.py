"""A real browser for tests: headless Chromium, spoken to through its debugging pipe.

The pipe has messages of JSON, each ended by a zero byte (Chrome DevTools Protocol): that takes
no driver and no package.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from helpers import PATIENCE, needs, wait_until

OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",  # as root it has none, and it sees our own pages only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class ProtocolError(Exception):
    """A command could not be carried out."""


@attrs.define(eq=False)
class Browser:
    """Chromium, and what it said that nobody has asked for."""

    to: int
    """The descriptor that it reads from."""
    back: int
    """The one that it writes to."""
    events: list[dict[str, Any]] = attrs.field(factory=list)
    _number: int = 0
    _read: bytes = b""

    def call(self, method: str, session: str | None = None, **values: Any) -> dict[str, Any]:
        """Have a command of its protocol carried out, and return the result."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": values}
        data = json.dumps(asked | ({"sessionId": session} if session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data) :]
        while (found := self._receive()).get("id") != self._number:
            self.events.append(found)
        if "error" in found:
            raise ProtocolError(f"{method}: {found['error']['message']}")
        result: dict[str, Any] = found["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self.back], [], [], PATIENCE)[0], "the browser is silent"
            data = os.read(self.back, 1 << 20)
            assert data, "the browser has ended"
            self._read += data
        message, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    @contextlib.contextmanager
    def page(
        self, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True
    ) -> Iterator[Page]:
        """Open a page of a size, with storage of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)[
            "targetId"
        ]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        try:
            yield page
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)


@attrs.define(eq=False)
class Page:
    """One page of a browser."""

    browser: Browser
    session: str

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """Have a command carried out in this page."""
        return self.browser.call(method, self.session, **values)

    def go(self, url: str) -> None:
        """Load a page, and wait until that is done."""
        self.browser.events.clear()
        found = self.call("Page.navigate", url=url)
        assert "errorText" not in found, found
        wait_until(lambda: self.has_had("Page.loadEventFired"), f"{url} is loaded")

    def has_had(self, method: str) -> list[dict[str, Any]]:
        """Return what was said in events of a kind since the page was loaded."""
        self.call("Runtime.evaluate", expression="0")  # events come before its answer
        return [
            each["params"]
            for each in self.browser.events
            if each["method"] == method and each.get("sessionId") == self.session
        ]

    def complaints(self) -> list[dict[str, Any]]:
        """Return errors, violations of its policy among them, and what scripts have logged."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [each for kind in kinds for each in self.has_had(kind)]

    def evaluate(self, expression: str) -> Any:
        """Return what an expression of JavaScript comes to, after its promise."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression of JavaScript is true, whatever is loaded meanwhile."""
        tried = (
            f"(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()"
        )

        def holds() -> bool:
            try:
                return bool(self.evaluate(tried))
            except ProtocolError:  # the page that it was asked of is gone
                return False

        wait_until(holds, expression)

    def click(self, expression: str, share: float = 0.5) -> None:
        """Click on an element, so far from its left."""
        self.evaluate(f"({expression}).scrollIntoView({{block: 'center'}})")
        x, y = self.evaluate(
            f"(box => [box.left + {share} * box.width, box.top + box.height / 3])"
            f"(({expression}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            values = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", **values)

    def press(self, key: str) -> None:
        """Press a key, of which nothing is typed."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def picture(self, path: Path, *, whole: bool = False) -> bytes:
        """Save what is to be seen as PNG, and return it."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        data = base64.b64decode(found["data"])
        path.write_bytes(data)
        return data


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with a folder of its own, and end it."""
    program = needs("chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        its_in, to = os.pipe()
        back, its_out = os.pipe()
        # Away from 3 and 4, which is where it looks for them.
        high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in (its_in, its_out)]
        null = os.open(os.devnull, os.O_RDWR)
        actions = [
            *((os.POSIX_SPAWN_DUP2, null, each) for each in (0, 1, 2)),
            *((os.POSIX_SPAWN_DUP2, each, wanted) for wanted, each in enumerate(high, 3)),
        ]
        arguments = [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        pid = os.posix_spawnp(
            program, arguments, os.environ | {"HOME": folder}, file_actions=actions, setpgroup=0
        )
        for each in (its_in, its_out, *high, null):
            os.close(each)
        try:
            yield Browser(to, back)
        finally:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(to)
            os.close(back)
