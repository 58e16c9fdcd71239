"""TLS of our own beside OpenSSL's programs: key updates, and alerts."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
import trustme

import techo
from helpers import PATIENCE, ended, needs, until_ended
from loads import check
from refusals import CLIENTS, only
from techo._transport.connect import connect

ASK = b"K\n"
"""What makes OpenSSL's programs send a key update that asks for one in return."""

ANSWERED = b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate"
"""What they say when that has come."""

START = b"Secure Renegotiation IS supported\n"
"""The last that their server says before it writes what it receives."""

NOISE = re.compile(rb"SSL_do_handshake -> 1\n|Read BLOCK\n")
"""What it says about key updates, some time later."""


@attrs.define(eq=False)
class Program:
    """One of OpenSSL's, which reports each message of TLS."""

    process: trio.Process
    written: bytes = b""

    async def until(self, words: bytes, times: int = 1) -> None:
        """Wait until it has written something so many times."""
        while self.written.count(words) < times:
            await self.read()

    async def read(self) -> None:
        """Read what it writes next."""
        assert self.process.stdout is not None
        chunk = await self.process.stdout.receive_some()
        assert chunk, self.written
        self.written += chunk

    async def type(self, line: bytes) -> None:
        """Give it a line of input."""
        assert self.process.stdin is not None
        await trio.sleep(0.1)  # a command is one only if it is read alone
        await self.process.stdin.send_all(line)


@contextlib.asynccontextmanager
async def openssl(*arguments: str) -> AsyncIterator[Program]:
    """Run one of them for a block."""
    process = await trio.lowlevel.open_process(
        [needs("openssl"), *arguments, "-msg"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        with trio.fail_after(PATIENCE):
            yield Program(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@contextlib.asynccontextmanager
async def serving(
    authority: trustme.CA, folder: Path, *options: str
) -> AsyncIterator[tuple[Program, int]]:
    """Run a server of theirs for a block, which is 127.0.0.1; yield it and its port."""
    pem = folder / "pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    async with openssl(
        "s_server", "-cert", str(pem), "-accept", "127.0.0.1:0", *options
    ) as server:
        await server.until(b"ACCEPT 127.0.0.1:")
        before, _, _ = server.written.partition(b"ACCEPT ")
        await server.until(b"\n", before.count(b"\n") + 1)  # it has the whole line
        yield server, int(server.written.partition(b"ACCEPT 127.0.0.1:")[2].split()[0])


@pytest.mark.usefixtures("conversation")
async def test_a_client_s_key_update_is_answered(server_tls: ssl.SSLContext) -> None:
    """The answer comes before the next reply, which the client can decrypt."""
    async with techo.open_server(
        "tls://127.0.0.1:0", reply=techo.raw, tls=server_tls
    ) as server:
        place = f"127.0.0.1:{server.endpoints[0].port}"
        async with openssl("s_client", "-connect", place) as client:
            await client.until(b"Verify return code")
            for number in range(1, 4):
                await client.type(ASK)
                await client.type(b"hello %d\n" % number)
                await client.until(ANSWERED, number)
                await client.until(b"hello %d" % number)


async def test_a_server_s_key_update_is_answered(
    authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """The answer comes before what is sent next (RFC 8446, 4.6.3)."""
    async with serving(authority, tmp_path) as (server, port):
        transport = (await connect(f"tls://127.0.0.1:{port}", tls=client_tls)).transport
        await server.until(b"BEGIN SSL SESSION")
        for number in range(1, 4):
            await server.type(ASK)
            await server.type(b"from the server\n")
            assert await transport.receive() == b"from the server\n"
            await transport.send(b"from the client %d\n" % number)
            await server.until(b"from the client %d" % number)
            await server.until(ANSWERED, number)
        await transport.aclose()


TRIPS, SIZE, EVERY = 20, 64, 5


@pytest.mark.usefixtures("conversation")
async def test_a_server_s_key_updates_cost_a_load_nothing(
    authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """Each is answered, in mid-trip, and all messages come back."""
    messages = tmp_path / "messages"
    options = ("-msgfile", str(messages))
    async with serving(authority, tmp_path, *options) as (server, port):

        async def echo() -> None:
            """Echo by hand, because their server does not; some after a key update."""
            await server.until(START)
            server.written = server.written.partition(START)[2]
            for number in range(1, TRIPS + 1):
                while len(data := NOISE.sub(b"", server.written)) < SIZE:
                    await server.read()
                assert len(data) == SIZE
                server.written = b""
                if number % EVERY == 0:
                    await server.type(ASK)
                await server.type(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            report = check(
                await techo.load(
                    f"tls://127.0.0.1:{port}",
                    connections=1,
                    trips=TRIPS,
                    size=SIZE,
                    timeout=PATIENCE,
                    tls=client_tls,
                )
            )
    assert (report.received, report.failures, report.reconnects) == (TRIPS, {}, 0)
    # The last may still be on its way when the load is over.
    assert messages.read_bytes().count(ANSWERED) >= TRIPS // EVERY - 1


def others_of(version: str) -> str:
    """Return the other version."""
    return "TLSv1_2" if version == "TLSv1_3" else "TLSv1_3"


@attrs.frozen
class Case:
    """One way to fail over one version of TLS."""

    what: str
    version: str
    alert: str
    """Its name in RFC 8446, 6.2."""

    def __str__(self) -> str:
        return f"{self.what}-{self.version}"

    @property
    def words(self) -> str:
        """How we write that name."""
        return f"alert {self.alert.replace('_', ' ')}"


CASES = [
    Case("no certificate", "TLSv1_2", "handshake_failure"),
    Case("no certificate", "TLSv1_3", "certificate_required"),
    *(
        Case(what, version, alert)
        for version in ("TLSv1_2", "TLSv1_3")
        for what, alert in (
            ("foreign certificate", "unknown_ca"),
            ("stranger", "unknown_ca"),
            ("other version", "protocol_version"),
            ("other ciphers", "handshake_failure"),
        )
    ),
]

OTHER_CIPHERS = {
    "TLSv1_2": ("-cipher", "ECDHE-ECDSA-AES128-CCM8"),
    "TLSv1_3": ("-ciphersuites", "TLS_AES_128_CCM_SHA256"),
}
"""Of which Python's contexts take none."""


@pytest.fixture
def foreign(tmp_path: Path) -> str:
    """Return the name of a file with a certificate that nobody knows."""
    path = tmp_path / "foreign"
    trustme.CA().issue_cert("me.example").private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


@pytest.mark.usefixtures("conversation")
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_both_name_the_alert_if_a_client_of_openssl_fails(
    case: Case,
    foreign: str,
    server_tls: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has the alert that was sent, or that came."""
    caplog.set_level(logging.INFO, "techo")
    options = ["-" + case.version.lower().replace("tlsv", "tls")]
    if "certificate" in case.what:
        server_tls.verify_mode = ssl.CERT_REQUIRED
    if case.what == "foreign certificate":
        options += ["-cert", foreign]
    elif case.what == "stranger":
        options += ["-verify_return_error"]
    elif case.what == "other version":
        only(server_tls, others_of(case.version))
    elif case.what == "other ciphers":
        options += OTHER_CIPHERS[case.version]
    async with techo.open_server(
        "tls://127.0.0.1:0", reply=techo.raw, tls=server_tls
    ) as server:
        place = f"127.0.0.1:{server.endpoints[0].port}"
        async with openssl("s_client", "-connect", place, *options) as client:
            await client.until(f"fatal {case.alert}".encode())
            assert ended(await until_ended(server, 1)) == {"reset": 1}
    way = "received" if case.what == "stranger" else "sent"
    (line,) = [each for each in caplog.messages if each.startswith("closed")]
    assert f"{way} {case.words}'" in line


@pytest.mark.usefixtures("conversation")
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_both_name_the_alert_if_a_server_of_openssl_fails(
    case: Case,
    foreign: str,
    authority: trustme.CA,
    client_tls: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    """It is the cause of every trip, over TLS 1.3 too, where it comes after the handshake."""
    options = ["-" + case.version.lower().replace("tlsv", "tls")]
    if "certificate" in case.what:
        authority.cert_pem.write_to_path(tmp_path / "ca")
        options += ["-Verify", "1", "-verify_return_error", "-CAfile", str(tmp_path / "ca")]
    if case.what == "foreign certificate":
        client_tls.load_cert_chain(foreign)
    elif case.what == "stranger":
        client_tls = ssl.create_default_context()
    elif case.what == "other version":
        only(client_tls, others_of(case.version))
    elif case.what == "other ciphers":
        options += OTHER_CIPHERS[case.version]
    async with serving(authority, tmp_path, *options) as (server, port):
        for number, client in enumerate(CLIENTS, 1):
            endpoint = techo.Endpoint.parse(f"tls://127.0.0.1:{port}")
            said = await client(endpoint, client_tls)
            assert case.words in said.lower()
            await server.until(f"fatal {case.alert}".encode(), number)
