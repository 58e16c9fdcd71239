"""TLS of our own beside OpenSSL's programs: key updates that either side asks for."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio
import trustme

import techo
from helpers import PATIENCE, needs
from techo._transport.connect import connect

ASK = b"K\n"
"""What makes OpenSSL's programs send a key update that asks for one in return."""

ANSWERED = b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate"
"""What they say when that has come."""


@attrs.define(eq=False)
class Program:
    """One of OpenSSL's, which reports each message of TLS."""

    process: trio.Process
    written: bytes = b""

    async def until(self, words: bytes, times: int = 1) -> None:
        """Wait until it has written something so many times."""
        assert self.process.stdout is not None
        while self.written.count(words) < times:
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
    pem = tmp_path / "pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    async with openssl("s_server", "-cert", str(pem), "-accept", "127.0.0.1:0") as server:
        await server.until(b"ACCEPT 127.0.0.1:")
        before, _, _ = server.written.partition(b"ACCEPT ")
        await server.until(b"\n", before.count(b"\n") + 1)  # it has the whole line
        port = int(server.written.partition(b"ACCEPT 127.0.0.1:")[2].split()[0])
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
