"""What several tests need: rude peers, descriptors counted, techo as a process."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import attrs
import pytest
import trio
import trustme

import techo
from schemas import check_lines, kind_of
from techo._cli import main
from techo._pump import pump

PATIENCE = 90.0
"""Seconds after which a test gives up on something that should take a fraction of one."""


def trust(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client's context that trusts this authority.

    It alone: to load the system's, of which there are more than a hundred, takes as long as
    most tests do.
    """
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


def set_linger_zero(sock: socket.socket | trio.socket.SocketType) -> None:
    """Make closing `sock` send a reset instead of saying goodbye."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset(stream: trio.SocketStream) -> None:
    """Break the connection the rude way."""
    set_linger_zero(stream.socket)
    stream.socket.close()


async def open_descriptors() -> int:
    """Count this process's open file descriptors, with the one that a run's pump keeps."""
    await trio.lowlevel.checkpoint()
    if pump.AVAILABLE:
        pump.Pump.of_this_run()
    return len(list(Path("/proc/self/fd").iterdir()))  # noqa: ASYNC240  -- it is in memory


async def receive_until_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything that comes until end-of-file."""
    return b"".join([chunk async for chunk in stream])


async def send_to_end(stream: trio.SocketStream, data: bytes) -> bytes:
    """Send data and an end; return all that comes back meanwhile and after it."""

    async def send() -> None:
        await stream.send_all(data)
        await stream.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        received = await receive_until_end(stream)
    return received


async def connect(service: techo.EchoService) -> trio.SocketStream:
    """Connect to the first endpoint of a service that is listening."""
    endpoint = service.endpoints[0]
    return await trio.open_tcp_stream(endpoint.host, endpoint.port)


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition()` holds: something that only counters tell."""
    begun = trio.current_time()
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  -- the kernel and the peer send no event
            # Seldom in a long wait, since each time is a jump where time is virtual.
            await trio.sleep(min(max(0.001, trio.current_time() - begun), 0.1))  # see above


async def until_ended(service: techo.EchoService, count: int) -> techo.Statistics:
    """Wait until `count` connections are over; give the statistics of that moment."""
    await until(lambda: sum(service.statistics().outcomes.values()) >= count)
    return service.statistics()


def ended(statistics: techo.Statistics) -> dict[str, int]:
    """The outcomes that happened."""
    return {str(name): count for name, count in statistics.outcomes.items() if count}


@attrs.define
class Process:
    """`python -m techo` as a user starts it."""

    popen: subprocess.Popen[bytes]
    log: IO[bytes]
    endpoints: list[techo.Endpoint] = attrs.field(factory=list)

    @property
    def port(self) -> int:
        """The first port it listens on."""
        return self.endpoints[0].port

    def read_endpoints(self, count: int) -> None:
        """Wait for its first lines."""
        assert self.popen.stdout is not None
        for _ in range(count):
            assert select.select([self.popen.stdout], [], [], PATIENCE)[0]
            line = self.popen.stdout.readline().decode()
            assert line.startswith("listening on "), self.read_log()
            self.endpoints.append(
                techo.Endpoint.parse(line.removeprefix("listening on ").strip())
            )

    def finish(self, number: int | None = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal, and give exit code, standard output and standard error."""
        if number is not None:
            self.popen.send_signal(number)
        out, _ = self.popen.communicate(timeout=PATIENCE)
        return self.popen.returncode, out.decode(), self.read_log()

    def statistics(self) -> dict[str, Any]:
        """What it has counted so far."""
        self.popen.send_signal(signal.SIGUSR1)
        assert self.popen.stdout is not None
        found: dict[str, Any] = json.loads(self.popen.stdout.readline())
        assert kind_of(found) == "statistics"
        return found

    def counters(self) -> dict[str, Any]:
        """What it has counted so far, the outcomes among the rest."""
        found = self.statistics()
        return {**found, **found.pop("outcomes")}

    def read_log(self) -> str:
        """What it has written to standard error so far."""
        # Not `seek`: the process writes where this file's position is, which both share.
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode()


def dial(process: Process) -> socket.socket:
    """Connect to a server process."""
    return socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE)


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Receive `size` bytes, or less at the end."""
    received = b""
    while len(received) < size and (chunk := sock.recv(size - len(received))):
        received += chunk
    return received


def command(*arguments: str) -> list[str]:
    """The command line of a techo command."""
    return [sys.executable, "-m", "techo", *arguments]


def run(
    *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> tuple[int, bytes, str]:
    """Run a techo command to its end; give exit code, standard output and standard error.

    What it prints for machines is as the schema says, here and in `call`.
    """
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env=os.environ | (environment or {}),
    )
    if "--json" in arguments:
        check_lines(done.stdout.decode())
    return done.returncode, done.stdout, done.stderr.decode()


@contextlib.contextmanager
def process_kept() -> Iterator[None]:
    """Put back what a command changes in the process that it takes for its own."""
    numbers = (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
    )
    handlers = [signal.getsignal(number) for number in numbers]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    loggers = [logging.getLogger(name) for name in ("techo", "trio.serve_listeners")]
    levels, filters = [each.level for each in loggers], [each.filters[:] for each in loggers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        for logger, level, kept in zip(loggers, levels, filters, strict=True):
            logger.setLevel(level)
            logger.filters = kept


@contextlib.contextmanager
def _standard_input(data: bytes) -> Iterator[None]:
    """Let standard input be a file."""
    kept = os.dup(0)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        os.dup2(file.fileno(), 0)
        try:
            with (
                open(0, closefd=False) as stdin,
                unittest.mock.patch.object(sys, "stdin", stdin),
            ):
                yield
        finally:
            os.dup2(kept, 0)
            os.close(kept)


def call(
    *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> tuple[int, bytes, str]:
    """Run a techo command as `run` does, but in this process, which spares its start.

    Its standard input is a file. It has no log and no terminal, and must end by itself.
    """
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _standard_input(stdin),
        unittest.mock.patch.dict(os.environ, environment or {}),
        process_kept(),
    ):
        try:
            code = main(arguments)
        except SystemExit as leaving:  # as wrong usage and --help do
            code = int(leaving.code or 0)
        out.flush()
        assert isinstance(out.buffer, io.BytesIO)
        if "--json" in arguments:
            check_lines(out.buffer.getvalue().decode())
        return code, out.buffer.getvalue(), err.getvalue()


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a techo command for a block, with pipes for what it says."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as popen:
        try:
            yield popen
        finally:
            if popen.poll() is None:
                popen.kill()


@contextlib.contextmanager
def serving(
    *arguments: str,
    sockets: int = 1,
    prefix: Sequence[str] = (),
    bare: bool = False,
    pass_fds: Sequence[int] = (),
    environment: dict[str, str] | None = None,
) -> Iterator[Process]:
    """Run a techo server for a block, on a free port unless told otherwise or `bare`."""
    if not bare and not any(re.match("[a-z]+:", each) for each in arguments):
        arguments = (*arguments, "tcp://127.0.0.1:0")
    # The log goes to a file: a pipe that nobody reads would stop the server in the end. Its
    # output is not buffered here, or select() would not see a line that was read ahead.
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [*prefix, *command(*arguments)],
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            pass_fds=pass_fds,
            env=os.environ | (environment or {}),
        ) as popen,
    ):
        process = Process(popen, log)
        try:
            process.read_endpoints(sockets)
            yield process
        finally:
            if popen.poll() is None:
                popen.kill()


@contextlib.contextmanager
def serving_both(*arguments: str) -> Iterator[Process]:
    """Run a server of TCP and UDP on the same port, which it gets with the sockets."""
    while True:
        tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
        with tcp, udp:
            try:
                udp.bind(tcp.getsockname())
            except OSError:  # another program has it over UDP
                continue
            numbers = tcp.fileno(), udp.fileno()
            endpoints = [f"fd:{number}" for number in numbers]
            with serving(*arguments, *endpoints, sockets=2, pass_fds=numbers) as process:
                yield process
            return


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A free port, below those (ip(7)) that the system gives to whoever asks for any.

    Another process may take it meanwhile, so this is only for programs that cannot be asked
    which port they got, or have to have it twice, and for where nobody is.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with socket.socket(socket.AF_INET, kind) as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def free_endpoint(kind: str) -> str:
    """Where nobody listens: an endpoint of kind tcp or udp."""
    port = free_port(socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    return f"{kind}://127.0.0.1:{port}"


@contextlib.contextmanager
def running(
    command: list[str], errors: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the length of a block."""
    # A session of its own, because some fork for every peer and leave their children behind.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=errors, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


async def until_answering(endpoint: str) -> None:
    """Wait until a server that has just been started answers."""
    with trio.fail_after(PATIENCE):
        while True:
            with trio.move_on_after(0.2), contextlib.suppress(OSError):
                async with techo.open_client(endpoint) as client:
                    await client.round_trip(b"?")
                    return
            await trio.sleep(0.02)  # another process: it does not say when it listens


def needs(program: str) -> str:
    """Where a program is that a test needs; without it the test is skipped, but not in CI."""
    found = shutil.which(program)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed")
    return found or program


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait, outside of trio, until `condition()` holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)  # another process: it sends no event to wait for
