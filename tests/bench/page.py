"""What looks at the page of watch: `page.py NAME ADDRESS PID COUNT DAYS SECONDS`.

It fills a history with hours of COUNT targets, has them watched, and opens the page in headless
Chromium, high enough that all strips are in sight.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from browsers import Page, browser
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._watch.counts import DAY, HOUR, MINUTE, Counts, Span
from techo._watch.history_file import open_to_write
from techo._watch.history_writer import Keep, NewSpan, Writer

PATIENCE: Final = 60.0
"""Seconds after which a page that is not there will not be."""

LOOK: Final = 0.02
"""Seconds between two looks at another process."""

SHAPES: Final = 6
"""Different hours of each target."""

HEIGHT: Final = 20_000
"""Pixels: enough for the strips of a hundred targets."""

DRAWN: Final = "document.documentElement.dataset.drawn"
MEASURED: Final = """['techo: all strips drawn', 'techo: a strip'].map(name =>
    performance.getEntriesByName(name).reduce((all, each) => all + each.duration, 0))"""


def some_hour(dice: random.Random, typical: float) -> Counts:
    """Return what becomes of a probe each second."""
    slow = dice.random() < 0.2
    times = (round(typical * dice.lognormvariate(0, 0.15 + slow * 0.4)) for _ in range(HOUR))
    counts = Counts(Histogram.of(times))
    counts.failures[FailureCause.TIMEOUT_REPLY] = dice.choice([0, 0, 0, 1, 40])
    return counts


def hour_like(dice: random.Random, shape: Counts, name: str, start: int) -> NewSpan:
    """Return an hour that no other is equal to."""
    counts = shape.copy()
    counts.latency.record(dice.randrange(shape.latency.min, shape.latency.max))
    return NewSpan.of(Span(name, start, MINUTE, counts))


def fill(path: str, names: list[str], days: int) -> None:
    """Write a history up to now, by the means of a watch: minutes, which become hours."""
    now = int(time.time())
    file = open_to_write(path)
    writer = Writer(file, Keep())
    for number, name in enumerate(names):
        dice = random.Random(number)  # noqa: S311  -- nobody should guess wrong
        typical = 10 ** dice.uniform(5, 8)
        shapes = [some_hour(dice, typical) for _ in range(SHAPES)]
        begins = range(now // HOUR * HOUR - days * DAY, now - MINUTE, HOUR)
        writer.write([hour_like(dice, dice.choice(shapes), name, at) for at in begins])
    while writer.tidy(now):
        pass
    writer.close()


@contextlib.contextmanager
def watching(folder: Path, endpoint: str, names: list[str]) -> Iterator[tuple[int, str]]:
    """Watch targets for a block: the process, and where its page is."""
    config, errors = folder / "watch.toml", folder / "errors"
    config.write_text(
        "".join(f'[[target]]\nname = "{name}"\nendpoint = "{endpoint}"\n' for name in names)
    )
    options = ["--config", str(config), "--history", str(folder / "history"), "--web", "0"]
    command = [sys.executable, "-P", "-m", "techo", "watch", *options]
    with (
        errors.open("wb") as err,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err
        ) as popen,
    ):
        try:
            end = time.monotonic() + PATIENCE
            while not (url := found_in(errors)) or not all_up(url, len(names)):
                if popen.poll() is not None or time.monotonic() > end:
                    sys.exit(f"there is no page: {errors.read_text().strip()[-500:]}")
                time.sleep(LOOK)  # another process: it sends no event to wait for
            yield popen.pid, url
            popen.send_signal(signal.SIGTERM)
            popen.wait(PATIENCE)
        finally:
            popen.kill()


def found_in(errors: Path) -> str:
    """Return where the page is, if that was said."""
    found = re.search(r"a page is on (http://[^ ,]*)", errors.read_text())
    return found[1] if found else ""


def all_up(url: str, count: int) -> bool:
    """Return whether all targets are up."""
    with urllib.request.urlopen(f"{url}rows.json", timeout=PATIENCE) as response:  # noqa: S310  -- http:, above
        rows = json.load(response)["rows"]
    return bool(sum(each["state"] == "up" for each in rows) == count)


def cpu_of(pid: int) -> float:
    """Return the seconds of a process: the kernel has a clock of each, made of its number."""
    return time.clock_gettime(~pid << 3 | 2)


def look(page: Page, pid: int, url: str, count: int) -> dict[str, float]:
    """Load the page once, and return what that took."""
    before = cpu_of(pid)
    page.go(url)
    page.wait_for(DRAWN)
    used = cpu_of(pid) - before
    if (drawn := page.evaluate(DRAWN)) != str(count):
        sys.exit(f"{drawn} strips of {count} were drawn")
    there, drawing = page.evaluate(MEASURED)
    return {"there_ms": there, "drawing_ms": drawing, "server_ms": 1000 * used}


def main(endpoint: str, count: int, days: int, seconds: float) -> dict[str, float]:
    """Return what the first look took, and the medians of those that there is time for."""
    names = [f"host-{number:03}.example" for number in range(count)]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        fill(str(Path(name, "history")), names, days)
        pid, url = stack.enter_context(watching(Path(name), endpoint, names))
        page = stack.enter_context(stack.enter_context(browser()).page(height=HEIGHT))
        source = "sessionStorage.setItem('zoom', '1w')"
        page.call("Page.addScriptToEvaluateOnNewDocument", source=source)
        first = look(page, pid, url, count)
        looks, end = list[dict[str, float]](), time.monotonic() + seconds
        while not looks or time.monotonic() < end:
            looks.append(look(page, pid, url, count))
    again = {key: statistics.median(each[key] for each in looks) for key in first}
    return again | {f"first_{key}": each for key, each in first.items()}


if __name__ == "__main__":
    _name, address, _pid, *amounts = sys.argv[1:]
    kind, _, port = address.partition(":")
    found = main(
        f"{kind}://127.0.0.1:{port}", int(amounts[0]), int(amounts[1]), float(amounts[2])
    )
    print(json.dumps(found))
