"""Serving every kind of socket from the command line: options, systemd, errors in one line."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

import techo
from helpers import PATIENCE, Process, call, command, run, serving, wait_until
from techo._cli import systemd


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> list[str]:
    """Return the options that name a certificate and its key."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    return [f"--tls-cert={tmp_path}/cert.pem", f"--tls-key={tmp_path}/key.pem"]


def dial(process: Process, number: int, client_tls: ssl.SSLContext) -> socket.socket:
    """Connect to one of a server's endpoints."""
    endpoint = process.endpoints[number]
    kinds = {"udp": socket.SOCK_DGRAM, "unixgram": socket.SOCK_DGRAM}
    kinds["unixpacket"] = socket.SOCK_SEQPACKET
    kind = kinds.get(endpoint.kind, socket.SOCK_STREAM)
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.settimeout(PATIENCE)
    if endpoint.kind == "unixgram":
        sock.bind("")
    sock.connect(endpoint.path.replace("@", "\0") or (endpoint.host, endpoint.port))
    if endpoint.kind == "tls":
        return client_tls.wrap_socket(sock, server_hostname="127.0.0.1")
    return sock


def test_eight_kinds_in_one_process(
    certificate: list[str], client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """All are answered at the same time; SIGTERM drains all, and no path is left."""
    with (
        socket.create_server(("127.0.0.1", 0)) as passed,
        socket.create_server(("127.0.0.1", 0)) as secure,
    ):
        descriptors = [passed.fileno(), secure.fileno()]
        endpoints = [
            "tcp://127.0.0.1:0",
            "udp://127.0.0.1:0",
            "tls://127.0.0.1:0",
            f"unix:{tmp_path}/s",
            f"unixgram:{tmp_path}/g",
            f"unixpacket:{tmp_path}/p",
            f"fd:{descriptors[0]}",
            f"unix:@techo-{os.getpid()}",
            f"tls+fd:{descriptors[1]}",
        ]
        with (
            serving(
                *certificate, *endpoints, sockets=len(endpoints), pass_fds=descriptors
            ) as process,
            contextlib.ExitStack() as stack,
        ):
            passed.close()
            secure.close()
            kinds = [each.partition(":")[0] for each in endpoints]
            kinds[6], kinds[8] = "tcp", "tls"
            assert [str(each.kind) for each in process.endpoints] == kinds
            socks = [
                stack.enter_context(dial(process, number, client_tls))
                for number in range(len(endpoints))
            ]
            for sock in socks:
                sock.send(b"hello")
            for sock in socks:
                assert sock.recv(100)[25:] == b"] hello"
            statistics = process.statistics()
            assert (statistics["active"], statistics["datagrams"]["echoed"]) == (7, 2)
            code, _, err = process.finish()
    assert code == 0
    assert err.count("outcome=drained") == 7
    assert sorted(each.suffix for each in tmp_path.iterdir()) == [".pem", ".pem"]


def test_unix_mode_is_applied(tmp_path: Path) -> None:
    """It takes octal digits, as chmod does."""
    with serving("--unix-mode", "620", f"unix:{tmp_path}/s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o620


def test_the_rate_and_the_guard_are_options() -> None:
    """Both reach the service."""
    options = ["--max-datagrams-per-second", "2", "--no-loop-guard", "udp://127.0.0.1:0"]
    with serving(*options) as process, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", process.port))
        for _ in range(100):
            sock.send(b"x")
        wait_until(lambda: process.statistics()["datagrams"]["received"] == 100, "all came")
        datagrams = process.statistics()["datagrams"]
        assert datagrams["echoed"] >= 2
        assert datagrams["dropped"]["rate"] == 100 - datagrams["echoed"] > 0


LONG = "x" * 108
WRONG = [
    (["--tls-cert={cert}", "tls://:0"], "has no key in it: give --tls-key"),
    (["--tls-cert={cert}", "--tls-key={other}", "tls://:0"], "does not belong to --tls-cert"),
    (["--tls-key={key}", "tls://:0"], "a certificate is missing: give --tls-cert"),
    (["tls://:0"], "a certificate is missing: give --tls-cert"),
    (
        ["--tls-cert={cert}", "--tls-key={key}", ":0"],
        "--tls-cert is for tls endpoints; there is none",
    ),
    (["--tls-client-ca={cert}", "unix:x"], "--tls-client-ca is for tls endpoints"),
    (["--tls-cert={none}", "tls://:0"], "cannot read --tls-cert '{none}': No such file"),
    (["--tls-cert={key}", "tls://:0"], "is no PEM file that can be used"),
    (["--tls-cert={locked}", "tls://:0"], "without a password"),
    (
        ["--tls-cert={cert}", "--tls-key={key}", "--tls-client-ca={key}", "tls://:0"],
        "--tls-client-ca '{key}' has no certificate in it",
    ),
    (["unix:" + LONG], "path of 108 bytes: a Unix socket's has 107 at most"),
    (["unix:{folder}"], "cannot listen on unix:{folder}: file exists; what is there is no"),
    (["unix:{folder}/no/x"], "no such file or directory; make its directory first"),
    (["fd:99"], "cannot listen on fd:99: bad file descriptor; nothing was passed under"),
    (
        ["--tls-cert={cert}", "--tls-key={key}", "tls+fd:99"],
        "cannot listen on tls+fd:99: bad file descriptor; nothing was passed under",
    ),
    (["tls+fd:3"], "a certificate is missing: give --tls-cert"),
    (
        ["--tls-cert={cert}", "--tls-key={key}", "fd:7"],
        "--tls-cert is for tls endpoints; there is none; tls+fd:7 is the socket that was",
    ),
    (["fd:0"], "cannot listen on fd:0: socket operation on non-socket; pass a socket"),
    (["--unix-mode", "888", "unix:x"], "is not permissions in octal digits"),
    (["--unix-mode", "1777", "unix:x"], "is not permissions in octal digits"),
    (["fd:x"], "write fd:N"),
    (["unix:"], "neither a printable path"),
    (
        ["--max-datagrams-per-second", "0"],
        "--max-datagrams-per-second: '0' is not a whole number from 1, or off",
    ),
    (
        ["--handshake-timeout", "0"],
        "--handshake-timeout: '0' is not a number of seconds above 0, or off",
    ),
]


@pytest.mark.parametrize(("arguments", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_wrong_input_gets_one_line_and_exit_2(
    arguments: list[str],
    reason: str,
    certificate: list[str],
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    """The line names the value and the remedy."""
    assert certificate
    other = authority.issue_cert("other.example")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    locked = load_pem_private_key(other.private_key_pem.bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.pem").write_bytes(other.cert_chain_pems[0].bytes() + locked)
    names = {
        each: f"{tmp_path}/{each}.pem" for each in ("cert", "key", "other", "none", "locked")
    } | {"folder": str(tmp_path)}
    # The endpoint fd:N would be a descriptor of this process.
    refused = run if any("fd:" in each for each in arguments) else call
    code, out, err = refused(*(each.format(**names) for each in arguments))
    assert (code, out) == (2, b"")
    assert err.startswith("techo: ")
    assert err.count("\n") == 1
    assert reason.format(**names) in err


def test_a_second_server_does_not_disturb_the_first(tmp_path: Path) -> None:
    """It reports why it can't have the path, and the first goes on answering."""
    path = f"unix:{tmp_path}/s"
    with serving(path, "--reply=raw"), socket.socket(socket.AF_UNIX) as sock:
        code, _, err = call(path)
        assert code == 2
        assert "address already in use; stop the server that is alive there" in err
        sock.connect(f"{tmp_path}/s")
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"


# As systemd does it: descriptors from 3 on, the variables with the number of the very process.
ACTIVATE = """
import fcntl, os, sys
first, second = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3])
os.dup2(first, 3)
os.dup2(second, 4)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
os.environ["LISTEN_FDNAMES"] = "web:udp"
os.execv(sys.argv[3], sys.argv[3:])
"""


HOUR = "3600000000"
"""Microseconds, so that the watchdog is told once, at the start."""


@contextlib.contextmanager
def activated(
    *arguments: str, sockets: int = 2, notify: str = ""
) -> Iterator[tuple[Process, int, int]]:
    """Run a techo that was passed a TCP and a UDP socket; give it and their ports."""
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        numbers = [tcp.fileno(), udp.fileno()]
        with serving(
            *arguments,
            prefix=[sys.executable, "-c", ACTIVATE, *map(str, numbers)],
            bare=True,
            pass_fds=numbers,
            environment={"NOTIFY_SOCKET": notify, "WATCHDOG_USEC": HOUR} if notify else {},
            sockets=sockets,
        ) as process:
            yield process, tcp.getsockname()[1], udp.getsockname()[1]


def test_a_socket_passed_by_systemd_is_served_over_tls(
    certificate: list[str], client_tls: ssl.SSLContext
) -> None:
    """Its number is named with its kind; beside it another is served as it is."""
    with activated(*certificate, "tls+fd:3", "fd:4") as (process, tcp, udp):
        assert [str(each) for each in process.endpoints] == [
            f"tls://127.0.0.1:{tcp}",
            f"udp://127.0.0.1:{udp}",
        ]
        with dial(process, 0, client_tls) as sock, dial(process, 1, client_tls) as other:
            for each in (sock, other):
                each.send(b"hello")
                assert each.recv(100)[25:] == b"] hello"


@pytest.mark.parametrize("abstract", [False, True])
def test_sockets_passed_by_systemd_are_served(
    abstract: bool,  # noqa: FBT001  -- a parameter of the test
    tmp_path: Path,
) -> None:
    """It hears when all are listening, that they live, and when the drain begins."""
    name = f"\0techo-notify-{os.getpid()}" if abstract else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(PATIENCE)
        with activated(notify=name.replace("\0", "@")) as (process, tcp, udp):
            assert [str(each) for each in process.endpoints] == [
                f"tcp://127.0.0.1:{tcp}",
                f"udp://127.0.0.1:{udp}",
            ]
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"WATCHDOG=1"
            code, _, err = process.finish()
            assert manager.recv(100) == b"STOPPING=1"
    assert code == 0
    assert "inherited 2 sockets: web:udp" in err


def test_sockets_passed_to_somebody_else_are_not_ours() -> None:
    """LISTEN_PID says which process they are for."""
    environment = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "2"}
    assert systemd.take_inherited(environment) == []
    assert environment == {}


def test_an_endpoint_of_our_own_wins_over_sockets_passed() -> None:
    """Only the endpoints on the command line are served."""
    with activated("udp://127.0.0.1:0", sockets=1) as (process, tcp, udp):
        assert process.port not in (tcp, udp)


def test_the_variables_of_systemd_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets are not passed on either, so that no child takes them for its own."""
    read, write = os.pipe()
    os.set_inheritable(read, True)
    monkeypatch.setattr(systemd, "_FIRST", read)
    environment = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "x",
        "NOTIFY_SOCKET": "/nowhere",
        "HOME": "/",
    }
    assert systemd.take_inherited(environment) == [techo.Endpoint(kind="fd", descriptor=read)]
    systemd.notifier(environment)
    assert environment == {"HOME": "/"}
    assert not os.get_inheritable(read)
    os.close(read)
    os.close(write)


def test_a_manager_that_is_gone_is_no_reason_to_stop() -> None:
    """The failure to notify it is logged."""
    with serving(environment={"NOTIFY_SOCKET": "/nowhere/notify"}) as process:
        code, _, err = process.finish()
    assert code == 0
    assert "cannot notify /nowhere/notify of READY=1: No such file or directory" in err


def test_nonsense_from_systemd_is_one_line() -> None:
    """The line names the variable and the value."""
    command_line = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command()]
    done = subprocess.run(
        command_line,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env=os.environ | {"LISTEN_FDS": "some"},
    )
    assert done.returncode == 2
    assert done.stderr == b"techo: LISTEN_FDS='some' is not a number of descriptors\n"
