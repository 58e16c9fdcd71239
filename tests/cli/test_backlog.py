"""The backlog: who does not read keeps nobody waiting, and learns later what is missing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from helpers import PATIENCE, command, wait_until
from techo._cli import backlog
from techo._cli.backlog import Backlog


def missing(count: int) -> str:
    """Return what stands for lines that are missing."""
    return f"{count} missing"


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Return the end to read from, and a stream that writes."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as stream, contextlib.ExitStack() as stack:
        stack.callback(os.close, reader)
        yield reader, stream


def read_until(reader: int, end: bytes) -> bytes:
    """Read until what was read ends with `end`."""
    data = b""
    while not data.endswith(end):
        data += os.read(reader, 2**20)
    return data


def test_lines_that_nobody_reads_are_dropped_and_counted(pipe: tuple[int, TextIO]) -> None:
    """Writing never waits; the count stands where the lines are missing."""
    reader, stream = pipe
    lines = Backlog(stream, missing, most=200_000)
    for number in range(100_000):
        lines.write(f"{number:09}")
    data = read_until(reader, b"missing\n").decode()
    *kept, report = data.splitlines()
    assert kept == [f"{number:09}" for number in range(len(kept))]
    assert 20_000 <= len(kept) < 40_000
    assert report == f"{100_000 - len(kept)} missing"
    lines.write("and on")
    assert read_until(reader, b"on\n") == b"and on\n"


def test_the_end_waits_for_a_reader_but_for_no_other(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is written if it can be."""
    monkeypatch.setattr(backlog, "_PATIENCE", 0.05)
    reader, stream = pipe
    lines = Backlog(stream, missing)
    lines.write("short")
    lines.close()
    assert os.read(reader, 100) == b"short\n"
    lines.write("x" * 2**20)
    lines.close()  # comes back
    assert len(read_until(reader, b"\n")) == 2**20 + 1


def test_what_cannot_be_encoded_is_escaped(pipe: tuple[int, TextIO]) -> None:
    """A stream in ASCII is no reason to lose a line."""
    reader, stream = pipe
    lines = Backlog(stream, missing)
    lines.write("caf\N{LATIN SMALL LETTER E WITH ACUTE}")
    assert read_until(reader, b"\n") == b"caf\\xe9\n"


def test_an_error_is_reported_and_counted(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk has room again, the count tells what is missing."""
    reader, stream = pipe
    full = OSError(errno.ENOSPC, "no space left on device")
    errors: list[OSError] = []
    room = False

    def write(number: int, data: memoryview) -> int:
        if not room:
            raise full
        return os.write(number, data)

    monkeypatch.setattr(backlog, "write_to", write)
    lines = Backlog(stream, missing, errors.append)
    lines.write("lost")
    lines.close()
    room = True
    lines.write("kept")
    assert read_until(reader, b"kept\n") == b"1 missing\nkept\n"
    assert errors == [full]


def test_a_stream_without_a_descriptor_is_written_to_at_once() -> None:
    """As tests have them."""
    stream = io.StringIO()
    lines = Backlog(stream, missing)
    lines.write("hello")
    lines.close()
    assert stream.getvalue() == "hello\n"


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_a_server_whose_output_nobody_reads_goes_on(stream: str, tmp_path: Path) -> None:
    """It answers more connections than the pipe has room for lines, and SIGTERM ends it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # or it would take a thousand
    path = tmp_path / "echo"
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writer}
    arguments = ["--max-connections", "10", f"unix:{path}"]
    with subprocess.Popen(command(*arguments), **streams) as popen:  # type: ignore[call-overload]  # two of them
        try:
            wait_until(path.exists, "it listens")
            for _ in range(100):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(PATIENCE)
                    while sock.connect_ex(str(path)):
                        pass
                    sock.sendall(b"hello")
                    assert sock.recv(100).endswith(b"hello")
                if stream == "stdout":
                    popen.send_signal(signal.SIGUSR1)
            popen.send_signal(signal.SIGTERM)
            assert popen.wait(PATIENCE) == 0
        finally:
            popen.kill()
            os.close(writer)
            os.close(reader)
