"""Measuring: all servers of a row run; they, or their clients, take turns, A B C C B A ..."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from bench import programs
from bench.programs import Programs
from bench.rows import Row
from techo.reply import STAMP_LENGTH

Turn: TypeAlias = dict[str, float]
"""The figures of one turn, by name."""

PATIENCE: Final = 230.0
"""Seconds, beyond its work, after which the load client is given up; it gives up before."""

START: Final = 20.0
"""Seconds that a server may take to listen."""

SAME_PROCESS: Final = 2
"""Rounds that a process serves. How its memory happens to be laid out can cost a fifth, so it
is not to be the same in all of them."""

WARM_UP: Final = 0.2
"""Seconds of load before the first turn of a process. asyncio's costs four times as much as all
that follow, because malloc then gives each of its buffers back to the system at once."""


class TurnError(Exception):
    """A server did not echo, or did not start; the text says in whose turn, and why."""


@attrs.frozen
class Server:
    """A server that is listening."""

    name: str
    pid: int
    address: str
    """As the load client takes it, such as tcp:40000."""
    probe: Path


def cores() -> tuple[int, int] | None:
    """Give a core for the server and one for the load, as far apart as there are; or None."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[-1]) if len(usable) > 1 else None


def pin(pid: int, place: int) -> None:
    """Let a process that has just begun run on nothing but its core."""
    if pair := cores():
        with contextlib.suppress(ProcessLookupError):  # it may have failed at once
            os.sched_setaffinity(pid, {pair[place]})


@contextlib.contextmanager
def serving(
    programs_: Programs, name: str, row: Row, folder: Path, target: Server | None = None
) -> Iterator[Server]:
    """Run a server of a row for the length of a block; a proxy has a target."""
    output, probe = folder / f"{name}.output", folder / f"{name}.probe"
    behind = "" if target is None else target.address
    command = programs_.command(name, row.transport, behind)
    command += [str(probe)] if row.probed else []
    # A file, because nobody reads on when the address is known, and a pipe would fill up.
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        ) as popen,
    ):
        try:
            if row.pinned:
                # What answers behind proxies has the client's core.
                pin(popen.pid, 1 if name == row.target else 0)
            yield Server(name, popen.pid, wait_for_address(popen, name, output), probe)
        finally:
            popen.kill()


def wait_for_address(popen: subprocess.Popen[bytes], name: str, output: Path) -> str:
    """Wait until a server has said where it listens."""
    announced = r"^(\w+:@?[\w-]+(?:,\w+:\d+)*)$"
    if name in programs.COMMANDS:
        announced = r"listening on .*:(\d+)"
    end = time.monotonic() + START
    while popen.poll() is None and time.monotonic() < end:
        if found := re.search(announced + r"\n", output.read_text(), re.MULTILINE):
            return f"tcp:{found[1]}" if name in programs.COMMANDS else found[1]
        time.sleep(0.01)  # another process: it sends no event to wait for
    raise TurnError(f"{name} did not start: {output.read_text().strip() or 'it said nothing'}")


def take_turn(programs_: Programs, name: str, server: Server, row: Row, seconds: float) -> Turn:
    """Put load on a server once, and give the figures; `name` is whose turn it is."""
    seconds = max(seconds, row.least_seconds)
    client = programs_.client(name if row.server else row.client)
    command = [*client, server.address, str(server.pid), *row.load, str(seconds)]
    if server.name == "techo-stamped":
        command.append(str(STAMP_LENGTH))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as popen:
        try:
            if row.pinned:
                pin(popen.pid, 1)
            out, err = popen.communicate(timeout=seconds + PATIENCE)
        finally:
            popen.kill()
    if popen.returncode:
        raise TurnError(f"{name}: {err.strip() or f'load ended by {popen.returncode}'}")
    turn: Turn = json.loads(out)
    if "messages" in turn and "seconds" in turn:
        turn["messages_per_second"] = turn["messages"] / turn["seconds"]
    if server.name in {programs.SOCAT, programs.SOCAT_PROXY} and turn["processes"] == 1:
        raise TurnError("socat: this kernel does not tell its children, who do the work")
    if row.probed:
        turn |= delays(server.probe, turn["begin"], turn["end"])
    return turn


def start_often(name: str, seconds: float) -> Turn:
    """Start a program again and again, and give what a start costs."""
    command = [sys.executable, *programs.STARTED[name]]
    before, begun, count = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0
    while not count or time.monotonic() < begun + seconds:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TurnError(f"{name}: {done.stderr.strip()}")
        count += 1
    elapsed = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "start_cpu_ms": cpu * 1000 / count,
        "start_ms": elapsed * 1000 / count,
        "starts": count,
    }


def delays(probe: Path, begin: float, end: float) -> Turn:
    """Sum up what a probe noted between two times."""
    lines = probe.read_text().splitlines()[:-1]  # the last may be half a line
    notes = [tuple(map(float, line.split())) for line in lines]
    late = sorted(lateness for wanted, lateness in notes if begin <= wanted <= end)
    if not late:
        raise TurnError("the probe noted nothing: its task was never woken up")
    p99 = late[math.ceil(0.99 * len(late)) - 1]
    return {"delay_p99_us": p99 * 1e6, "delay_samples": len(late)}


@attrs.frozen
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float


def measure(
    programs_: Programs, row: Row, effort: Effort, progress: Callable[[], object]
) -> dict[str, list[Turn]]:
    """Give the turns of all who take part in a row and are installed; `progress` after each.

    Raises:
        TurnError: one of them failed, and with it the row.
    """
    contenders = programs.present(row)
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    if row.starts:
        for number in range(effort.rounds):
            for name in contenders if number % 2 == 0 else reversed(contenders):
                turns[name].append(start_often(name, effort.seconds))
                progress()
        return turns
    step = 1 if row.fresh else SAME_PROCESS
    for first in range(0, effort.rounds, step):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            target = row.target and stack.enter_context(
                serving(programs_, row.target, row, Path(folder))
            )
            running = {
                name: stack.enter_context(
                    serving(programs_, name, row, Path(folder), target or None)
                )
                for name in ((row.server,) if row.server else contenders)
            }
            if not row.fresh:
                # What is warmed up is the server, so it does not matter who asks it.
                brief = attrs.evolve(row, least_seconds=0, probed=False, server=None)
                for name, server in running.items():
                    take_turn(programs_, name, server, brief, min(WARM_UP, effort.seconds))
            for number in range(first, min(first + step, effort.rounds)):
                for name in contenders if number % 2 == 0 else reversed(contenders):
                    server = running[row.server or name]
                    turns[name].append(take_turn(programs_, name, server, row, effort.seconds))
                    progress()
    return turns
