"""techo talk over every kind of endpoint: out of a file, a pipe and a terminal."""

from __future__ import annotations

import contextlib
import functools
import os
import pty
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trustme

import techo
from helpers import PATIENCE, call, command, free_endpoint

KINDS = [str(kind) for kind in techo.Kind if kind not in ("fd", "tls+fd", "icmp", "ip")]
DATAGRAMS = ["udp", "unixgram"]
UNLIKE = ["tls", "udp", "unixpacket"]
"""Those that are read and written unlike each other, and unlike TCP, as in test_talk.py."""


@attrs.define
class Certificates:
    """Files as the options take them, and a server's context."""

    folder: Path
    authority: trustme.CA = attrs.field(factory=trustme.CA)
    server: ssl.SSLContext = attrs.field(
        factory=lambda: ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    )

    def __attrs_post_init__(self) -> None:
        self.authority.issue_cert("localhost").configure_cert(self.server)
        self.authority.cert_pem.write_to_path(self.file("ca"))
        ours = self.authority.issue_cert("me")
        ours.private_key_and_cert_chain_pem.write_to_path(self.file("both"))
        ours.cert_chain_pems[0].write_to_path(self.file("certificate"))
        ours.private_key_pem.write_to_path(self.file("key"))

    def wanting_one(self) -> ssl.SSLContext:
        """Return the context of a server that asks for a client's certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("localhost").configure_cert(context)
        self.authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def file(self, name: str) -> str:
        """Return the path of one of them: ca, both, certificate or key."""
        return str(self.folder / f"{name}.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Create one authority for this file."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.contextmanager
def server_in_thread(
    endpoint: str, reply: techo.Reply = techo.raw, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve in a thread; give the endpoint to talk to."""
    started = threading.Event()
    bound: list[str] = []
    stops: list[Callable[[], object]] = []

    async def serve() -> None:
        limits = techo.Limits(close_timeout=0.01)
        async with techo.open_server(endpoint, reply=reply, tls=tls, limits=limits) as server:
            stop = trio.Event()
            token = trio.lowlevel.current_trio_token()
            stops.append(functools.partial(token.run_sync_soon, stop.set))
            bound.append(str(server.endpoints[0]).replace("127.0.0.1", "localhost"))
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            trio.run(serve)
        finally:
            started.set()  # also if it could not

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(PATIENCE)
        yield bound[0]
    finally:
        for stop in stops:
            stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextlib.contextmanager
def talking_to(
    kind: str, folder: Path, certificates: Certificates, reply: techo.Reply = techo.raw
) -> Iterator[list[str]]:
    """Serve an endpoint of that kind; give the arguments to talk to it."""
    endpoint = f"{kind}:{folder}/s" if "unix" in kind else f"{kind}://127.0.0.1:0"
    with server_in_thread(endpoint, reply, certificates.server) as bound:
        trust = ["--tls-ca", certificates.file("ca")] if kind == "tls" else []
        yield ["talk", bound, *trust]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gets_back_what_went_in(
    kind: str, tmp_path: Path, certificates: Certificates
) -> None:
    """Lines of any length and any bytes come back, also without a newline at the end."""
    lines = [os.urandom(size).replace(b"\n", b"") for size in (3, 0, 50_000, 1, 0, 0)]
    data = b"\n".join([*lines * 5, b"no end"])
    with talking_to(kind, tmp_path, certificates) as arguments:
        assert call(*arguments, stdin=data) == (0, data, "")
        assert call(*arguments) == (0, b"", "")


@pytest.mark.parametrize("kind", ["udp", "unixgram", "unixpacket"])
def test_a_line_is_a_message(kind: str, tmp_path: Path, certificates: Certificates) -> None:
    """Each line gets a stamp of its own."""
    with talking_to(kind, tmp_path, certificates, techo.stamped) as arguments:
        code, out, err = call(*arguments, stdin=b"one\n\nthree")
    assert (code, err) == (0, "")
    assert re.fullmatch(rb"\[.{24}\] one\n\[.{24}\] \n\[.{24}\] three", out)


@pytest.mark.parametrize("kind", UNLIKE)
def test_a_line_in_two_pieces_is_one_line(
    kind: str, tmp_path: Path, certificates: Certificates
) -> None:
    """Replies are printed as they come, before the input has ended."""
    with talking_to(kind, tmp_path, certificates) as arguments:
        talk = subprocess.Popen(
            command(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert talk.stdin is not None
        assert talk.stdout is not None
        for pieces in ((b"one ", b"line\n"), (b"two\n",)):
            for piece in pieces:
                talk.stdin.write(piece)
            line = b""
            while not line.endswith(b"\n"):
                assert select.select([talk.stdout], [], [], PATIENCE)[0]
                line += os.read(talk.stdout.fileno(), 100)
            assert line == b"".join(pieces)
        assert talk.communicate(timeout=PATIENCE)[0] == b""
        assert talk.returncode == 0


@pytest.mark.parametrize("kind", UNLIKE)
def test_a_terminal_talks_over_every_kind(
    kind: str, tmp_path: Path, certificates: Certificates
) -> None:
    """A line is sent without its end, and an empty one ends the talk."""
    master, slave = pty.openpty()
    with talking_to(kind, tmp_path, certificates, techo.stamped) as arguments:
        talk = subprocess.Popen(command(*arguments), stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        shown = b""
        for keys, pattern in ((b"", rb"> $"), (b"hello\n", rb"\[.{24}\] hello\r\n> $")):
            os.write(master, keys)
            end = time.monotonic() + PATIENCE
            while not re.search(pattern, shown):
                assert time.monotonic() < end, shown
                if select.select([master], [], [], 0.1)[0]:
                    shown += os.read(master, 1000)
        os.write(master, b"\n")
        assert talk.wait(PATIENCE) == 0
    os.close(master)


@pytest.mark.parametrize(
    ("kind", "limit"), [("udp", 65507), ("unixgram", 0), ("unixpacket", 0)]
)
def test_a_line_too_large_names_the_limit(
    kind: str, limit: int, tmp_path: Path, certificates: Certificates
) -> None:
    """One line names it and the exit code is 2; earlier lines are answered."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        limit = limit or sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32
    with talking_to(kind, tmp_path, certificates) as arguments:
        data = b"first\n" + b"x" * (limit - 1) + b"\n"
        assert call(*arguments, stdin=data) == (0, data, "")
        code, out, err = call(*arguments, stdin=b"first\n" + b"x" * limit + b"\nlast")
        with Path("/dev/zero").open("rb") as endless:
            done = subprocess.run(
                command(*arguments),
                stdin=endless,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", err)
    assert (code, out) == (2, b"first\n")
    assert err == (
        f"techo: a line has more than the {limit} bytes that fit into one message here; "
        "send shorter lines, or talk over tcp or unix\n"
    )


@pytest.mark.parametrize("bad", ["lost", "wrong"])
@pytest.mark.parametrize("kind", DATAGRAMS)
def test_a_lost_datagram_is_told_and_the_talk_goes_on(
    kind: str, bad: str, tmp_path: Path, certificates: Certificates
) -> None:
    """A wrong reply is as good as a lost one, and the exit code is 1 in the end."""
    replies = {b"lost\n": b"", b"wrong\n": b"gnorw\n"}
    with talking_to(
        kind, tmp_path, certificates, lambda data: replies.get(data, data)
    ) as arguments:
        code, out, err = call(*arguments, stdin=f"one\n{bad}\ntwo\n".encode())
    assert (code, out) == (1, b"one\ntwo\n")
    assert err == f"techo: no echo of {len(bad) + 1} bytes within 1s\n"


def test_nobody_there_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    """The exit code is 2, whatever was tried."""
    path = str(tmp_path / "s")
    cases = {
        free_endpoint("udp"): "connection refused; start a server there",
        f"unix:{path}": "no such file or directory; check the path",
        "unixgram:@techo-nobody": "connection refused; no server listens there; start one",
        "fd:0": "it is for servers",
        "tls+fd:0": "it is for servers",
        "udp://*:1": "name host and port",
        "tls://*:1": "name host and port",
    }
    for endpoint, reason in cases.items():
        code, out, err = call("talk", endpoint, stdin=b"x")
        assert (code, out, len(err.splitlines())) == (2, b"", 1)
        assert endpoint in err
        assert reason in err
    with server_in_thread(f"unix:{path}"):
        code, _, err = call("talk", f"unixpacket:{path}")
    assert (code, "another kind" in err, len(err.splitlines())) == (2, True, 1)


@pytest.mark.parametrize("name", ["talk", "check", "ping", "load"])
def test_what_is_wrong_with_tls_is_one_line_with_the_remedy(
    certificates: Certificates, name: str
) -> None:
    """The exit code is 2 for a bad certificate, another name and no TLS, in every command."""
    ca = certificates.file("ca")
    once = {"ping": ["-c", "1"], "load": ["-n", "1", "-c", "1"]}.get(name, [])
    with server_in_thread("tls://127.0.0.1:0", tls=certificates.server) as endpoint:
        by_address = endpoint.replace("localhost", "127.0.0.1")
        cases = [
            ([endpoint], "unable to get local issuer certificate)", "; --tls-ca FILE"),
            ([by_address, "--tls-ca", ca], "mismatch", "; --tls-server-name NAME"),
            ([endpoint, "--tls-ca", ca, "--tls-server-name", ""], "neither", "name of a host"),
        ]
        for arguments, reason, remedy in cases:
            code, _, err = call(name, *once, *arguments)
            assert (code, len(err.splitlines())) == (2, 1)
            assert remedy in err
            assert once or reason in err  # ping and load have said that already
        for remedied in (
            [by_address, "--tls-ca", ca, "--tls-server-name", "localhost"],
            [by_address, "--tls-insecure"],
        ):
            assert call("talk", *remedied, stdin=b"x") == (0, b"x", "")
    with server_in_thread("tcp://127.0.0.1:0") as endpoint:
        code, _, err = call(name, *once, endpoint.replace("tcp", "tls"))
    assert (code, "speaks TLS" in err, len(err.splitlines())) == (2, True, 1)


def test_files_of_no_use_are_named(certificates: Certificates, tmp_path: Path) -> None:
    """The exit code is 2, before anything is connected."""
    missing, empty = str(tmp_path / "missing"), tmp_path / "empty"
    empty.touch()
    ca, both, key = certificates.file("ca"), certificates.file("both"), certificates.file("key")
    stranger = trustme.CA().issue_cert("stranger").private_key_pem
    stranger.write_to_path(str(tmp_path / "stranger"))
    cases = [
        (["--tls-ca", missing], f"cannot read --tls-ca {missing!r}: No such file"),
        (["--tls-ca", str(empty)], f"--tls-ca {str(empty)!r} has no certificate in it"),
        (["--tls-ca", ""], "cannot read --tls-ca '': No such file"),
        (["--tls-cert", missing], f"cannot read --tls-cert {missing!r}: No such file"),
        (
            ["--tls-cert", ca],
            f"--tls-cert {ca!r} has no key in it: give --tls-key FILE",
        ),
        (
            ["--tls-cert", both, "--tls-key", missing],
            f"cannot read --tls-key {missing!r}: No such file",
        ),
        (
            ["--tls-cert", both, "--tls-key", str(tmp_path / "stranger")],
            "does not belong to --tls-cert",
        ),
        (["--tls-key", key], "a certificate is missing: give --tls-cert FILE"),
    ]
    for arguments, reason in cases:
        code, out, err = call("talk", "tls://127.0.0.1:1", *arguments)
        assert (code, out, len(err.splitlines())) == (2, b"", 1)
        assert reason in err


def test_tls_options_are_for_tls_but_the_environment_may_say_more(
    certificates: Certificates, tmp_path: Path
) -> None:
    """An option that does not apply is an error; a variable may be meant for other talks."""
    with talking_to("unix", tmp_path, certificates) as (*_, endpoint):
        for option in (["--tls-ca", "x"], ["--tls-insecure"], ["--tls-server-name", "x"]):
            code, _, err = call("talk", endpoint, *option)
            assert (code, err) == (
                2,
                f"techo: {option[0]} is for tls endpoints; there is none\n",
            )
        environment = {"TECHO_TLS_CA": "/nowhere", "TECHO_TLS_CERT": "/nowhere"}
        assert call("talk", endpoint, stdin=b"x", environment=environment) == (0, b"x", "")
    with server_in_thread("tls://127.0.0.1:0", tls=certificates.server) as endpoint:
        environment = {"TECHO_TLS_CA": certificates.file("ca"), "TECHO_ENDPOINT": endpoint}
        assert call("talk", stdin=b"x", environment=environment) == (0, b"x", "")
        for wrong in ("TECHO_TLS_CA", "TECHO_TLS_CLIENT_CERT"):
            code, _, err = call("talk", endpoint, environment={wrong: "/nowhere"})
            assert (code, f"cannot read {wrong} '/nowhere'" in err) == (2, True)


def test_a_server_that_wants_a_certificate_gets_it(certificates: Certificates) -> None:
    """It may be in one file or in two."""
    wanting = certificates.wanting_one()
    shown = [
        "--tls-cert",
        certificates.file("certificate"),
        "--tls-key",
        certificates.file("key"),
    ]
    with server_in_thread("tls://127.0.0.1:0", tls=wanting) as endpoint:
        arguments = ["talk", endpoint, "--tls-ca", certificates.file("ca")]
        for certificate in (["--tls-cert", certificates.file("both")], shown):
            assert call(*arguments, *certificate, stdin=b"x") == (0, b"x", "")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize(
    "command_line", [["talk"], ["check"], ["ping", "-c", "1"], ["load", "-n", "1", "-c", "1"]]
)
def test_a_certificate_that_is_missing_is_asked_for(
    certificates: Certificates, command_line: list[str], version: str
) -> None:
    """By every command, whichever version of TLS refuses to go on without it."""
    wanting = certificates.wanting_one()
    wanting.maximum_version = ssl.TLSVersion[version]
    with server_in_thread("tls://127.0.0.1:0", tls=wanting) as endpoint:
        arguments = [*command_line, endpoint, "--tls-ca", certificates.file("ca")]
        code, _, err = call(*arguments, stdin=b"x")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "; --tls-cert FILE" in err


def test_a_server_that_is_no_echo_may_finish_over_tls(certificates: Certificates) -> None:
    """Nothing marks its end, so the talk waits a moment and ends well."""

    def shout(data: bytes) -> bytes:
        return data.upper() + bytes(100_000)  # in more pieces than one

    with server_in_thread("tls://127.0.0.1:0", shout, certificates.server) as endpoint:
        arguments = ["talk", endpoint, "--tls-ca", certificates.file("ca")]
        assert call(*arguments, stdin=b"hello") == (0, b"HELLO" + bytes(100_000), "")
