"""Thousands of peers at once, or one after the other, leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
import trio

import techo
from helpers import (
    PATIENCE,
    Process,
    dial,
    ended,
    open_descriptors,
    receive_exactly,
    serving,
    set_linger_zero,
    until_ended,
    wait_until,
)


@pytest.mark.usefixtures("conversation")
async def test_a_thousand_at_once_leave_nothing_behind() -> None:
    """Tasks and descriptors are back where they were."""
    before = await open_descriptors()
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def one(server: techo.EchoService, number: int) -> None:
        async with techo.open_client(server.endpoints[0]) as client:
            await client.round_trip(b"%d" % number)

    async with techo.open_server("tcp://127.0.0.1:0") as server:
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(one, server, number)
        assert ended(await until_ended(server, 1000)) == {"eof": 1000}
    assert await open_descriptors() == before
    assert trio.lowlevel.current_statistics().tasks_living == tasks


def test_connect_and_reset_five_thousand_times() -> None:
    """As balancers' health checks do: nothing stays active, not one traceback."""
    with serving() as process:
        for _ in range(5000):
            sock = dial(process)
            set_linger_zero(sock)
            sock.close()
        wait_until(lambda: process.counters()["accepted"] >= 4900, "they were accepted")
        wait_until(lambda: process.counters()["active"] == 0, "they were seen to be gone")
        code, _, err = process.finish()
    assert code == 0
    assert "Traceback" not in err
    assert set(re.findall(r"outcome=(\w+)", err)) <= {"reset", "eof"}


def resident(process: Process) -> float:
    """MiB of memory that a server process has."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_a_thousand_peers_that_never_read_are_gone_and_so_is_their_memory() -> None:
    """Each connects, sends 1 MiB and never reads; an idle timeout later nothing is left."""
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(serving("-q", "--idle-timeout", "2"))
        before = resident(process)
        for _ in range(1000):
            sock = stack.enter_context(dial(process))
            sock.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                sock.sendall(bytes(2**20))
        wait_until(lambda: process.counters()["stalled"] == 1000, "all were given up on")
        assert process.counters()["active"] == 0
        assert resident(process) < before + 50
        assert process.finish()[0] == 0


def test_sigterm_under_200_busy_clients_owes_nobody_anything() -> None:
    """Every client gets whole messages and end-of-file between two of them; exit code 0."""
    message = bytes(range(256)) * 64
    torn: list[int] = []
    trips: list[int] = []

    def chat(process: Process) -> None:
        count = 0
        with dial(process) as sock:
            while True:
                try:
                    sock.sendall(message)
                except (BrokenPipeError, ConnectionResetError):
                    break
                try:
                    back = receive_exactly(sock, len(message))
                except ConnectionResetError:
                    back = b""
                if back != message:
                    if back:
                        torn.append(len(back))
                    break
                count += 1
        trips.append(count)

    with serving("--reply", "raw", "-q", "--drain-timeout", "4") as process:
        threads = [threading.Thread(target=chat, args=[process]) for _ in range(200)]
        for thread in threads:
            thread.start()
        wait_until(lambda: process.counters()["active"] == 200, "all are connected")
        wait_until(lambda: process.counters()["received_bytes"] > 10**7, "all are busy")
        code, _, err = process.finish()
        for thread in threads:
            thread.join(PATIENCE)
    assert (code, err) == (0, "")
    assert torn == []
    assert len(trips) == 200
    assert min(trips) > 0


def cpu(process: Process) -> float:
    """Seconds of CPU that a server process has used."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("closing", [True, False], ids=["closing", "deaf"])
def test_draining_many_idle_connections_costs_less_than_accepting_them(
    closing: bool,  # noqa: FBT001  -- a parameter of the test
) -> None:
    """It took three times as long; the server is over in time although nobody closes in turn.

    The time of the clock depends on what else the machine does, the CPU's much less.
    """
    count = 5000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 500), hard))
    with (
        contextlib.ExitStack() as stack,
        serving("-q", "--reply", "raw", "--drain-timeout", "1") as process,
    ):
        started = cpu(process)
        socks = [stack.enter_context(dial(process)) for _ in range(count)]
        for sock in socks:
            sock.sendall(b"x")
        for sock in socks:
            assert sock.recv(10) == b"x"
        time.sleep(0.5)  # after which all of them are quiet
        accepted = cpu(process)
        process.popen.send_signal(signal.SIGTERM)
        if closing:
            for sock in socks:
                assert sock.recv(10) == b""
                sock.close()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert process.popen.wait(PATIENCE) == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert total - accepted < accepted - started
