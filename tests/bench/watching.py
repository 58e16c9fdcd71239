"""What watches: `watching.py NAME ADDRESS PID WORK COUNT INTERVAL SECONDS`.

WORK watch starts `techo watch`, waits until each of COUNT targets is up, and reads what it
takes from then on. techo-watch-kept has a history and a page, too, and is scraped twice.

WORK memory and metrics watch in this process, and fill the counts with what a day brings.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import trio

import techo
from techo._cli.watching import overlook
from techo._watch.metrics import SharedExposition
from techo._watch.watch import Watch

PATIENCE: Final = 60.0
"""Seconds after which targets that are not up will not be, beyond their interval."""

LOOK: Final = 0.05
"""Seconds between two looks at a file, or at a process."""

TIMELY: Final = 0.95
"""The share of probes that must have been sent in time and answered; else less was measured."""

MIB: Final = 2**20

TYPICAL: Final = 0.02
WIDTH: Final = 0.3
"""Seconds that a probe takes over a wide network, and how far the logarithm strays from it."""

ENOUGH: Final = 1000
"""Probes that fill nearly all buckets that a day of them fills."""

SCRAPES: Final = 2
"""In a turn, however long."""


def fail(reason: str) -> None:
    """End with the reason."""
    sys.exit(reason)


def endpoint_of(address: str) -> str:
    """Return where the server is, as techo takes it."""
    kind, _, port = address.partition(":")
    return f"{kind}://127.0.0.1:{port}"


# The command.


@attrs.define(eq=False)
class Used:
    """What a process has used up to a moment."""

    cpu: float
    """Seconds."""
    at: float

    @classmethod
    def by(cls, pid: int) -> Used:
        """Look at a process: the kernel has a clock of each, whose number is made of its id."""
        return cls(time.clock_gettime(~pid << 3 | 2), time.monotonic())


def resident(pid: int) -> float:
    """Return how much of a process is in memory, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def config(endpoint: str, count: int, interval: float) -> str:
    """Return a file of targets."""
    tables = "".join(
        f'[[target]]\nname = "{number}"\nendpoint = "{endpoint}"\n' for number in range(count)
    )
    return f"[defaults]\ninterval = {interval}\nup-after = 1\n{tables}"


@attrs.define(eq=False)
class Command:
    """A `techo watch` that runs, and its files."""

    popen: subprocess.Popen[bytes]
    output: Path
    errors: Path

    def wait_for(self, what: str, found: Callable[[], bool], seconds: float) -> None:
        """Wait until something is found."""
        end = time.monotonic() + seconds
        while not found():
            if self.popen.poll() is not None or time.monotonic() > end:
                fail(f"no {what}: {self.errors.read_text().strip()[-500:]}")
            time.sleep(LOOK)  # another process: it sends no event to wait for

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """Return what it has written so far of a kind."""
        lines = self.output.read_text().splitlines(keepends=True)
        # The last may be half a line.
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [each for each in found if each["event"] == kind]

    def end(self) -> None:
        """End it; check that it did what it was to do."""
        self.popen.send_signal(signal.SIGTERM)
        if code := self.popen.wait(PATIENCE):
            fail(f"techo watch ended by {code}: {self.errors.read_text().strip()[-500:]}")


@contextlib.contextmanager
def watching(path: str, *, kept: bool) -> Iterator[Command]:
    """Run `techo watch` with a file of targets, for a block."""
    folder = Path(path).parent
    output, errors = folder / "output", folder / "errors"
    more = ["--history", str(folder / "history"), "--web", "0"] if kept else []
    command = [sys.executable, "-P", "-m", "techo", "watch", "--json", "--config", path, *more]
    with (
        output.open("wb") as out,
        errors.open("wb") as err,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err) as popen,
    ):
        try:
            yield Command(popen, output, errors)
        finally:
            popen.kill()


def scrape(command: Command) -> None:
    """Ask for metrics, as Prometheus does."""
    found = re.search("metrics on (http://[^ ]*)\n", command.errors.read_text())
    assert found
    with urllib.request.urlopen(found[1], timeout=PATIENCE) as response:  # noqa: S310  -- http:, above
        response.read()


def ask_command(
    name: str, address: str, count: int, interval: float, seconds: float
) -> dict[str, float]:
    """Return what `techo watch` takes."""
    kept = name.endswith("-kept")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "watch.toml")
        path.write_text(config(endpoint_of(address), count, interval))
        with watching(str(path), kept=kept) as command:
            command.wait_for(
                f"{count} targets up",
                lambda: command.output.read_bytes().count(b'"state": "up"') >= count,
                interval + PATIENCE,
            )
            pid = command.popen.pid
            before = Used.by(pid)
            for _ in range(SCRAPES):
                if kept:
                    scrape(command)
                time.sleep(seconds / SCRAPES)  # the time for which it is measured
            after = Used.by(pid)
            memory = resident(pid)
            command.end()
            states = command.objects("target")
    return figures_of(states, before, after, count / interval) | {"resident_mib": memory}


def figures_of(
    states: list[dict[str, Any]], before: Used, after: Used, rate: float
) -> dict[str, float]:
    """Return what it took, if it did what it was to do."""
    due = sum(each["sent"] for each in states)
    missed = sum(each["missed"] for each in states)
    answered = sum(each["total"]["received"] for each in states)
    if answered < TIMELY * due - len(states):
        fail(f"{answered} of {due} probes were answered, and {missed} not sent")
    seconds, cpu = after.at - before.at, after.cpu - before.cpu
    probes = rate * seconds
    return {
        "messages": round(probes),
        "seconds": seconds,
        "cores": cpu / seconds,
        "probe_us": cpu / probes * 1e6,
    }


# In this process.


@attrs.define(eq=False)
class Turns(trio.abc.Instrument):
    """How much CPU time each turn of a task took, at the most."""

    longest: float = 0.0
    _begun: float = attrs.field(factory=time.thread_time, init=False)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when it begins."""
        del task
        self._begun = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note how long it took."""
        del task
        self.longest = max(self.longest, time.thread_time() - self._begun)


def targets_of(endpoint: str, count: int, interval: float) -> list[techo.WatchTarget]:
    """Return targets that are all the same but for their names."""
    return [
        techo.WatchTarget(
            endpoint=endpoint,
            name=str(number),
            interval=interval,
            thresholds=techo.Thresholds(up_after=1),
        )
        for number in range(count)
    ]


async def fill(watch: Watch) -> None:
    """Let a watch have counted what a day brings; nothing public does that sooner."""
    generator = random.Random(1)  # noqa: S311  -- any values do, but the same each time
    for each in watch._watched.values():
        for _ in range(ENOUGH):
            seconds = TYPICAL * generator.lognormvariate(0, WIDTH)
            each.record.total.latency.record(round(seconds * 1e9))
        await trio.lowlevel.checkpoint()


async def ask_for_memory(
    endpoint: str, count: int, interval: float, seconds: float
) -> dict[str, float]:
    """Return what is in memory when everything is counted that a day brings."""
    async with techo.watch(targets_of(endpoint, count, interval)) as watch:
        with trio.fail_after(interval + PATIENCE):
            for _ in range(count):  # each comes up
                await anext(watch)
        await fill(watch)
        await trio.sleep(seconds)  # the time for which it is measured
        memory = resident(os.getpid())
    return {"resident_mib": memory}


async def ask_for_metrics(
    endpoint: str, count: int, interval: float, seconds: float
) -> dict[str, float]:
    """Return what a text for Prometheus takes, and for how long the loop is held up by it."""
    async with techo.watch(targets_of(endpoint, count, interval)) as watch:
        await fill(watch)
        overlook()  # as the command does
        turns, texts, size = Turns(), list[float](), 0
        end = trio.current_time() + seconds
        trio.lowlevel.add_instrument(turns)
        while not texts or trio.current_time() < end:
            expose = SharedExposition(watch.snapshots, techo.__version__)
            before = time.process_time()
            text, _ = await expose("")
            texts.append(time.process_time() - before)
            size = len(text)
        trio.lowlevel.remove_instrument(turns)
        before = time.thread_time()
        watch.snapshot()
        took = time.thread_time() - before
    return {
        "text_ms": statistics.median(texts) * 1000,
        "text_mb": size / 1e6,
        "turn_ms": turns.longest * 1000,
        "snapshot_ms": took * 1000,
    }


def main(*words: str) -> None:
    """Ask, and print the figures."""
    name, address, _, work, count, interval, seconds = words
    size = int(count), float(interval), float(seconds)
    if work == "watch":
        figures = ask_command(name, address, *size)
    else:
        ask = {"memory": ask_for_memory, "metrics": ask_for_metrics}[work]
        figures = trio.run(ask, endpoint_of(address), *size)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
