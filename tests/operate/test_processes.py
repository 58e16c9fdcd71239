"""Processes: a child that ends with its parent, and what the two say to each other."""

from __future__ import annotations

import os
import socket
import sys

import pytest
import trio

from helpers import PATIENCE
from techo._operate.processes import Channel, open_child

ECHO = """
import os, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
lines = channel.makefile("rwb")
for line in lines:
    lines.write(line[:-2] + b', "session": %d}\\n' % os.getsid(0))
    lines.flush()
sys.exit(7)
"""
"""What answers each message with its session, and sees the end of its parent."""


def command(program: str, number: int) -> list[str]:
    """Return the command line of a child."""
    return [sys.executable, "-S", "-c", program, str(number)]


async def test_messages_go_there_and_back() -> None:
    """A child has a session of its own; it sees the end, and is waited for."""
    with trio.fail_after(PATIENCE):
        async with open_child(lambda number: command(ECHO, number)) as child:
            assert await child.channel.send({"text": "a\nb"})
            found = await child.channel.receive()
            assert found == {"text": "a\nb", "session": child.process.pid}
            child.channel.close()
            assert await child.process.wait() == 7
    assert not await child.channel.send({"text": "again"})


async def test_a_child_that_is_still_there_is_killed() -> None:
    """Leaving the block ends it, however deaf it is, and leaves no zombie."""
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)"
    with trio.fail_after(PATIENCE):
        async with open_child(lambda number: command(program, number)) as child:
            pass
    assert child.process.returncode == -9
    with pytest.raises(ProcessLookupError):
        os.kill(child.process.pid, 0)


async def test_what_cannot_be_started_leaves_nothing_open() -> None:
    """The error is the system's."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  -- numbers, not paths
    with pytest.raises(FileNotFoundError):
        async with open_child(lambda _number: ["/nonexistent"]):
            raise AssertionError
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  -- likewise


async def test_half_a_message_is_none() -> None:
    """What a child that dies had only begun to say is dropped, and what it had said is not."""
    ours, theirs = socket.socketpair()
    channel = Channel.of(ours)
    theirs.sendall(b'{"a": 1}\n{"b"')
    theirs.close()
    assert await channel.receive() == {"a": 1}
    assert await channel.receive() is None
    channel.close()
