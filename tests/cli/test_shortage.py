"""What this machine lacks is never reported as the server's fault, in every command."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from helpers import PATIENCE, call, command
from techo._checking.names import CHECK_NAMES
from techo._kernel.options import SocketOptions
from techo._shortage import OutOfPortsError, named, worst_first

ONLY_MANY = [
    word for name in CHECK_NAMES if name != "many-at-once" for word in ("--skip", name)
]


def limited(limit: str, *arguments: str) -> tuple[int, str, str]:
    """Run a command under ``ulimit``."""
    done = subprocess.run(
        ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *command(*arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


def test_check_raises_its_limit_as_load_does(port: str) -> None:
    """Of descriptors, a soft limit that is too low for the connections is raised."""
    code, out, err = limited("-Sn 64", "check", "--connections", "60", *ONLY_MANY, port)
    assert (code, err) == (0, "")
    assert "60 connections, each with bytes of its own" in out


@pytest.mark.parametrize("name", ["check", "load"])
def test_a_hard_limit_that_is_too_low_is_ours(port: str, name: str) -> None:
    """Nothing is tried, and the line has the remedy."""
    code, out, err = limited("-n 64", name, "--connections", "60", port)
    assert (code, out) == (2, "")
    assert "only 64 files may be open" in err
    assert "lower --connections" in err


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what makes sockets fail: how many can be opened, and the error's number after."""
    numbers = [0, errno.EMFILE]
    original = SocketOptions.open

    def open_socket(
        options: SocketOptions, family: int, kind: int, protocol: int = 0
    ) -> socket.socket:
        numbers[0] -= 1
        if numbers[0] < 0:
            raise OSError(numbers[1], os.strerror(numbers[1]))
        return original(options, family, kind, protocol)

    monkeypatch.setattr(SocketOptions, "open", open_socket)
    return numbers


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EMFILE, ("too many open files", "raise the limit on open files (ulimit -n)")),
        (errno.ENFILE, ("too many open files in system", "fs.file-max")),
        (errno.ENOMEM, ("cannot allocate memory", "close other programs")),
        (errno.ENOBUFS, ("no buffer space available", "ask for less at once")),
        (errno.EPERM, ("operation not permitted", "firewall")),
    ],
)
@pytest.mark.parametrize("name", ["ping", "load", "check"])
def test_a_shortage_has_its_remedy(
    port: str, short: list[int], name: str, number: int, words: tuple[str, str]
) -> None:
    """The line says what was short and what to do, and the exit status is 2."""
    short[1] = number
    arguments = {"ping": ["-q", "-c", "1"], "load": ["-n", "1", "-W", "2"], "check": []}[name]
    code, _, err = call(name, *arguments, port)
    assert code == 2
    assert all(each in err for each in words)
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["load", "check"])
def test_a_shortage_counts_even_if_trips_came_back(
    port: str, short: list[int], name: str
) -> None:
    """What was measured says nothing about the server, so the exit status is 2."""
    arguments = {
        "load": ["-c", "2", "-n", "20", "-W", "0.2"],
        "check": ["--skip", "empty", "--skip", "1-byte"],
    }[name]
    short[0] = {"load": 1, "check": 2}[name]
    code, out, err = call(name, *arguments, port)
    assert code == 2
    assert {"load": b"20 round trips", "check": b"1460-bytes      pass"}[name] in out
    assert "too many open files" in err
    assert "ulimit -n" in err


def test_a_merged_shortage_counts(port: str, short: list[int], tmp_path: Path) -> None:
    """One of several machines that fell short spoils the sum."""
    short[0] = 1
    file = str(tmp_path / "a.json")
    assert call("load", "-c", "2", "-n", "5", "-W", "0.2", "--output", file, port)[0] == 2
    assert json.loads(Path(file).read_text())["failures"]["local"] > 0
    code, _, err = call("merge", file)
    assert code == 2
    assert "ulimit -n" in err


def test_no_port_left_is_told_from_no_way() -> None:
    """Over UDP the system says EAGAIN, over TCP the same as where no address of ours leads."""
    family, way = socket.AF_INET, ("127.0.0.1", 9)
    assert isinstance(named(BlockingIOError(errno.EAGAIN, ""), family, way), OutOfPortsError)
    assert isinstance(named(OSError(errno.EADDRNOTAVAIL, ""), family, way), OutOfPortsError)
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "")
    assert named(refused, family, way) is refused


def test_of_several_failures_our_own_is_first() -> None:
    """What is short is so for every address; a permission may lack for one."""
    refused, denied = OSError(errno.ECONNREFUSED, ""), OSError(errno.EACCES, "")
    assert worst_first([refused, short := OSError(errno.EMFILE, "")]) == [short, refused]
    assert worst_first([refused, denied]) == [refused, denied]


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        *[("serve", limit) for limit in (5, 6, 7, 8, 9)],  # at each something else needs it
        *[(name, 5) for name in ("check", "load", "ping", "talk", "merge")],
    ],
)
def test_too_few_descriptors_to_start_with(port: str, name: str, limit: int) -> None:
    """One line says so, with the remedy."""
    place = {"serve": "127.0.0.1:0", "merge": "/dev/null"}.get(name, port)
    code, out, err = limited(f"-n {limit}", name, place)
    assert (code, out) == (2, "")
    assert err == (
        "techo: cannot start: too many open files; raise the limit on open files "
        "(ulimit -n 64)\n"
    )


def test_a_soft_limit_is_no_reason_not_to_start(port: str) -> None:
    """It is raised."""
    code, out, err = limited("-Sn 8", "ping", "-c", "1", port)
    assert (code, err) == (0, "")
    assert "1 received" in out


def test_listening_has_the_remedy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that finds none for its socket says what to raise."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("techo._server.sockets.bound", refuse)
    code, _, err = call("unix:@a")
    assert code == 2
    assert "cannot listen on unix:@a: too many open files; raise the limit" in err
