"""python -m techo as the process it is: output, signals, exit codes, descriptors."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import trio

import techo
from helpers import (
    PATIENCE,
    Process,
    call,
    dial,
    receive_exactly,
    serving,
    wait_until,
)
from techo._cli.running import Server

HELLO = re.compile(rb"\[.{24}\] hello")


def test_it_listens_says_so_and_stamps() -> None:
    """It prints where it listens, stamps a hello, and SIGTERM ends it with 0."""
    with serving() as process:
        with dial(process) as sock:
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            assert HELLO.fullmatch(receive_exactly(sock, 10_000))
        code, out, err = process.finish()
    assert (code, out) == (0, "")
    here = f"endpoint={process.endpoints[0]}\n"
    assert re.search(rf"INFO connected 127\.0\.0\.1:\d+ id=1 {here}", err)
    assert re.search(r"INFO serving tcp://127\.0\.0\.1:\d+\n", err)
    assert re.search(
        r"INFO draining 0 connections\n.* INFO stopped; in total accepted=1, ", err
    )
    assert re.search(
        rf"INFO closed 127\.0\.0\.1:\d+ outcome=eof chunks=1 bytes_in=5 .* id=1 {here}", err
    )


def test_several_endpoints_and_raw() -> None:
    """It prints one line for each socket, and the reply is the same on all."""
    arguments = ["--reply", "raw", "-q", "tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://*:0"]
    with serving(*arguments, sockets=4) as process:
        for endpoint in process.endpoints:
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)  # noqa: S104  -- what * means
            with socket.create_connection((host, endpoint.port), timeout=PATIENCE) as sock:
                sock.sendall(b"hello")
                assert receive_exactly(sock, 5) == b"hello"
        code, _, err = process.finish()
    assert (code, err) == (0, "")


def test_the_port_alone_and_the_word_serve() -> None:
    """`techo PORT` and `techo serve PORT` are the same."""
    for arguments in (["0"], ["serve", "0"]):  # any free port
        with serving(*arguments, "tcp://[::1]:0", sockets=2) as process:
            assert str(process.endpoints[0]) == f"tcp://127.0.0.1:{process.port}"
            assert process.finish()[0] == 0


def test_sigint_drains_and_dies_by_sigint() -> None:
    """A shell sees 130."""
    with serving("-q") as process, dial(process) as sock:
        sock.sendall(b"hello")
        assert HELLO.fullmatch(receive_exactly(sock, 32))
        process.popen.send_signal(signal.SIGINT)
        assert sock.recv(100) == b""
        sock.close()
        code, out, err = process.finish(None)
    assert (code, out, err) == (-signal.SIGINT, "", "")


def stuff(process: Process, sock: socket.socket) -> None:
    """Send without reading until the server is stuck with a reply."""
    sock.settimeout(0)
    before = None
    while (
        before != (before := process.counters())
        or before["received_bytes"] == before["sent_bytes"]
    ):
        with contextlib.suppress(BlockingIOError):
            while sock.send(bytes(2**16)):
                pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    """It does so long before the drain timeout, and the exit code shows aborted connections."""
    with (
        serving("--drain-timeout", "300", "-v", "--reply", "raw") as process,
        dial(process) as sock,
    ):
        stuff(process, sock)
        process.popen.send_signal(number)
        wait_until(lambda: "draining" in process.read_log(), "the first signal was seen")
        code, _, err = process.finish(number)
    assert code == 1
    assert "outcome=aborted" in err


def test_what_is_cut_after_the_drain_timeout_makes_exit_code_1() -> None:
    """A stuck peer does not hold up the end, and is counted."""
    with (
        serving("--drain-timeout", "0.2", "-q", "--reply", "raw") as process,
        dial(process) as sock,
    ):
        stuff(process, sock)
        assert process.finish()[0] == 1


def test_statistics_on_sigusr1() -> None:
    """It prints one line of JSON, before and during the drain."""
    with serving("-q") as process, dial(process) as sock:
        sock.sendall(b"hello")
        receive_exactly(sock, 32)
        seen = process.counters()
        assert (seen["accepted"], seen["active"], seen["chunks"]) == (1, 1, 1)
        assert (seen["schema"], seen["event"]) == (2, "statistics")
        assert (seen["received_bytes"], seen["sent_bytes"]) == (5, 32)
        assert (seen["datagrams"]["received"], seen["datagrams"]["sent_bytes"]) == (0, 0)
        process.popen.send_signal(signal.SIGTERM)
        assert sock.recv(10) == b""
        assert process.counters()["active"] == 1  # it waits for us to close
        sock.close()
        assert process.finish(None)[0] == 0


def test_json_log() -> None:
    """There are the same lines, as one object each, with where and which connection."""
    with serving("--log-format", "json") as process:
        with dial(process) as sock:
            sock.sendall(b"hello")
            receive_exactly(sock, 32)
        wait_until(lambda: '"closed"' in process.read_log(), "it is seen before the signal")
        _, _, err = process.finish()
    starting, connected, closed, draining, total = map(json.loads, err.splitlines())
    assert (connected["event"], closed["event"]) == ("connected", "closed")
    assert {json.loads(line)["schema"] for line in err.splitlines()} == {2}
    for name in ("peer", "id", "endpoint"):
        assert connected[name] == closed[name]
    assert [closed["endpoint"]] == starting["endpoints"] == draining["endpoints"]
    assert (draining["event"], draining["active"]) == ("draining", 0)
    assert (total["event"], total["outcomes"]["eof"]) == ("total", 1)
    assert (total["sent_bytes"], total["datagrams"]["sent_bytes"]) == (32, 0)
    assert (closed["outcome"], closed["chunks"], closed["sent_bytes"]) == ("eof", 1, 32)
    assert closed["level"] == "info"
    assert 0 < closed["seconds"] < PATIENCE


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nonsense"], ["'nonsense' is neither a command nor an endpoint", "nonsense:8009"]),
        (
            ["--idle-timeout", "-1"],
            ["--idle-timeout", "'-1'", "a time, such as 500ms, 2s or 1m, or off"],
        ),
        (["--idle-timeout", "0"], ["'0'", "a number of seconds above 0, or off"]),
        (["--idle-timeout", "soon"], ["'soon'", "a time, such as"]),
        (["--max-connections", "many"], ["'many'", "a whole number"]),
        (["--reply", "shout"], ["'shout'", "stamped", "raw"]),
        (["no-such-host.invalid:80"], ["tcp://no-such-host.invalid:80", "unknown host"]),
        (["tcp://192.0.2.1:80"], ["tcp://192.0.2.1:80", "no interface"]),
        (["--frobnicate"], ["--frobnicate", "--help"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], parts: list[str]
) -> None:
    """The line names the value and the remedy; no traceback."""
    code, out, err = call(*arguments)
    assert (code, out) == (2, b"")
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err


def test_a_port_in_use_is_named() -> None:
    """The line says what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = call("tcp://127.0.0.1:0", endpoint)
    assert (code, out) == (2, b"")
    assert err.startswith(f"techo: cannot listen on {endpoint}: address already in use; ")
    assert len(err.splitlines()) == 1


def test_the_environment_is_below_flags_and_above_defaults() -> None:
    """TECHO_ variables count, an option counts more, and a bad variable is named."""
    bad = call(environment={"TECHO_IDLE_TIMEOUT": "-3"})
    assert bad[0] == 2
    assert "TECHO_IDLE_TIMEOUT='-3': " in bad[2]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = call(
            environment={"TECHO_ENDPOINT": f"[::1]:0 {port}", "TECHO_QUIET": "no"}
        )
        assert (code, f"tcp://127.0.0.1:{port}: address already in use" in err) == (2, True)
        code, _, err = call("192.0.2.1:1", environment={"TECHO_ENDPOINT": str(port)})
        assert (code, "192.0.2.1" in err) == (2, True)


def test_a_variable_for_what_is_no_option_is_nobodys_business() -> None:
    """Containers set TECHO_VERSION and the like, and help does not wait for valid variables."""
    assert call("--version", environment={"TECHO_VERSION": "1"})[0] == 0
    assert call("192.0.2.1:1", environment={"TECHO_VERSION": "1"})[2].count("no interface") == 1
    assert call("--help", environment={"TECHO_IDLE_TIMEOUT": "x"})[0] == 0


def test_options_may_stand_between_endpoints() -> None:
    """Their order does not matter."""
    arguments = ["tcp://127.0.0.1:0", "--reply", "raw", "tcp://[::1]:0"]
    with serving(*arguments, sockets=2) as process:
        assert [each.host for each in process.endpoints] == ["127.0.0.1", "::1"]
        assert process.finish()[0] == 0


def test_whoever_reads_standard_output_may_leave() -> None:
    """The server goes on without it, and printing statistics does not end it."""
    with serving() as process:
        assert process.popen.stdout is not None
        process.popen.stdout.close()
        process.popen.send_signal(signal.SIGUSR1)
        wait_until(
            lambda: "cannot write to standard output" in process.read_log(), "it was said"
        )
        process.popen.send_signal(signal.SIGUSR1)
        with dial(process) as sock:
            sock.sendall(b"hello")
            assert HELLO.fullmatch(receive_exactly(sock, 32))
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(PATIENCE) == 0
        assert process.read_log().count("cannot write") == 1


async def test_a_signal_ends_a_start_that_takes_long(restored_signals: None) -> None:
    """A name service that does not answer can't keep a server from stopping."""

    class Slow(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: object) -> NoReturn:
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()
            raise AssertionError("cancelled")

        async def getnameinfo(self, *_: object) -> NoReturn:
            raise AssertionError("nobody asks for it")

    notified: list[str] = []
    told: list[str] = []
    trio.socket.set_custom_hostname_resolver(Slow())
    with trio.fail_after(PATIENCE):
        server = Server(techo.EchoService(), notified.append, told.append)
        assert await server.run([techo.Endpoint("slow.example", 1)]) == 0
    assert notified == ["STOPPING=1"]  # and never that it is ready
    assert not told


@pytest.fixture
def restored_signals() -> Iterator[None]:
    """Restore the signal handlers that a server in this process has changed."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def test_version_names_techo_trio_and_python() -> None:
    """It prints what a bug report needs."""
    code, out, _ = call("--version")
    assert code == 0
    assert re.fullmatch(
        rb"techo \d+\.\d+\.\d+, trio \d+\.\d+\.\d+, Python 3\.\d+\.\d+\S*\n", out
    )


def test_help_shows_every_default_with_its_unit() -> None:
    """Each option that takes a value has its default in help."""
    code, out, _ = call("serve", "--help")
    assert code == 0
    text = " ".join(out.decode().split())
    for default in ("60s", "10,000 connections", "64k", "stamped", "off", "text"):
        assert f"(default: {default})" in text
    assert len(re.findall(r"[(;] ?default: ", text)) == 32


def test_descriptors_exhausted_make_one_line_and_accepting_resumes() -> None:
    """Open connections are served on, and waiting ones are accepted when others leave."""
    limit = ["sh", "-c", 'ulimit -n 24 && exec "$@"', "sh"]
    with serving(prefix=limit) as process:
        inside: list[socket.socket] = []
        waiting: list[socket.socket] = []
        for _ in range(40):
            sock = dial(process)
            sock.sendall(b"hello")
            while "cannot accept connections now" not in process.read_log():
                if select.select([sock], [], [], 0.01)[0]:
                    assert len(receive_exactly(sock, 32)) == 32
                    inside.append(sock)
                    break
            else:
                waiting.append(sock)
                if len(waiting) == 5:
                    break
        assert len(inside) >= 5
        assert len(waiting) == 5
        for sock in inside:
            sock.sendall(b"again")
            assert len(receive_exactly(sock, 32)) == 32
            sock.close()
        for sock in waiting:
            sock.settimeout(PATIENCE)
            assert HELLO.fullmatch(receive_exactly(sock, 32))
            sock.close()
        code, _, err = process.finish()
    assert code == 0
    assert "Traceback" not in err
    assert len(re.findall("cannot accept connections now: .*ulimit -n", err)) == 1
    assert "only 24 files may be open, which is too few for 10000 connections" in err


def test_the_limit_on_open_files_is_raised_as_far_as_needed() -> None:
    """A soft limit is no reason to refuse connections."""
    limit = ["sh", "-c", 'ulimit -Sn 64 && exec "$@"', "sh"]
    with serving("-q", "--max-connections", "500", prefix=limit) as process:
        limits = Path(f"/proc/{process.popen.pid}/limits").read_text()
        code, _, err = process.finish()
    assert re.search(r"Max open files +564 ", limits)
    assert (code, err) == (0, "")
