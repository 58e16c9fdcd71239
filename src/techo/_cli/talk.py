"""The talk command: the tutorial's client, on a terminal or in a pipe."""

from __future__ import annotations

import argparse
import contextlib
import ssl
import sys
from typing import Final

import attrs
import trio

from techo._cli.complaints import CONNECTING_BY_PATH, complain
from techo._cli.standard_input import StandardInput
from techo._cli.tls import client_context
from techo._client.client import EchoClient
from techo._client.comparison import Comparison, EchoMismatch
from techo._nursery import open_bare_nursery
from techo._transport.connect import connect
from techo._transport.transport import Transport
from techo.endpoint import Endpoint

_HANDSHAKE: Final = 10.0
"""Seconds for connecting with TLS, as servers allow by default: who does not speak it may wait
for us to say something else, for ever."""

_PATIENCE: Final = 1.0
"""Seconds after which a datagram counts as lost: more than a round trip takes on earth, and
what ping waits between two."""

_LINGER: Final = 1.0
"""Seconds for a server that is no echo to say more, where nothing marks the end of it."""


def talk(options: argparse.Namespace) -> int:
    """Talk until the input ends and everything owed was printed; give the exit code."""
    return trio.run(_talk, options)


async def _talk(options: argparse.Namespace) -> int:
    endpoint: Endpoint = options.endpoint
    try:
        transport = await _connect(endpoint, options)
    except OSError as error:  # first, because a bad certificate is a ValueError as well
        return _complain(f"cannot connect to {endpoint}", error, endpoint)
    except ValueError as error:
        sys.stderr.write(f"techo: {error}\n")
        return 2
    async with transport:
        if transport.connectionless:
            return await _talk_in_datagrams(transport, endpoint)
        talker = _Talker(transport, StandardInput(transport.largest))
        await talker.run()
    if talker.cut_short:
        sys.stderr.write(f"techo: {endpoint} ended the connection {talker.cut_short}\n")
    return talker.source.failure or (1 if talker.cut_short else 0)


async def _connect(endpoint: Endpoint, options: argparse.Namespace) -> Transport:
    tls = client_context(options)
    if tls is None:
        return (await connect(endpoint)).transport
    with trio.move_on_after(_HANDSHAKE):
        connected = await connect(endpoint, tls=tls, server_name=options.tls_server_name)
        return connected.transport
    raise TimeoutError(f"no TLS connection within {_HANDSHAKE:g} s")


def _complain(what: str, error: OSError, endpoint: Endpoint) -> int:
    return complain(what, error, *([CONNECTING_BY_PATH] if endpoint.path else []))


async def _talk_in_datagrams(transport: Transport, endpoint: Endpoint) -> int:
    """Send each line as a datagram and print the reply to it before the next."""
    client, source = EchoClient(transport), StandardInput(transport.largest)
    answered = unanswered = 0
    while line := await source.read():
        try:
            with trio.move_on_after(_PATIENCE) as scope:
                trip = await client.round_trip(line)
        except OSError as error:
            code = _complain(f"cannot talk to {endpoint}", error, endpoint)
            return 1 if answered else code
        if scope.cancelled_caught:
            unanswered += 1
            sys.stderr.write(f"techo: no echo of {len(line)} bytes within {_PATIENCE:g} s\n")
        else:
            answered += 1
            _print(trip.reply + b"\n" if source.terminal else trip.reply)
    return source.failure or (1 if unanswered else 0)


def _print(data: bytes | bytearray) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@attrs.define(eq=False)
class _Talker:
    """One conversation: standard input to the server, its replies to standard output."""

    transport: Transport
    source: StandardInput
    cut_short: str = ""
    """Once it is over: what was left undone, or nothing."""
    _finished: bool = False
    _comparison: Comparison | None = attrs.field(factory=Comparison)
    """None once the server has proved to be no echo: then it is just printed."""
    _answered: trio.Event = attrs.field(factory=trio.Event)
    _refused: bool = False
    """Whether TLS broke before anything came back."""

    async def run(self) -> None:
        self._answered.set()  # nothing is owed yet
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._send_input, nursery.cancel_scope)
            await self._print_replies()
            nursery.cancel_scope.cancel(reason="the server has closed")
        if not self._finished:
            self.cut_short = "before the input ended"
        elif self._comparison is not None and not self._comparison.complete:
            self.cut_short = f"and owes {self._comparison.owed} bytes"
        if self.cut_short and self._refused:
            self.cut_short += "; --tls-cert FILE, if it wants to know who you are"

    async def _send_input(self, conversation: trio.CancelScope) -> None:
        while chunk := await self.source.read():
            self._answered = trio.Event()
            if self._comparison is not None:
                self._comparison.expect(chunk)
            # If the server is gone, the receiving side tells how far it came.
            with contextlib.suppress(trio.BrokenResourceError):
                await self.transport.send(chunk)
            if self.source.terminal:
                await self._answered.wait()
        self._finished = True
        if self.transport.half_closeable:
            with contextlib.suppress(trio.BrokenResourceError):
                await self.transport.send_eof()
            return
        # TLS knows no half-close: saying that nothing more comes would end the replies, too.
        await self._answered.wait()
        if self._comparison is None:
            await trio.sleep(_LINGER)
        conversation.cancel(reason="everything has come back")

    async def _print_replies(self) -> None:
        try:
            while chunk := await self.transport.receive():
                answered = self._answers(chunk)
                if answered and self.source.terminal:
                    chunk += b"\n"
                _print(chunk)
                if answered:
                    self._answered.set()
        except trio.BrokenResourceError as error:
            # A broken connection is told by what is missing, as an early end is.
            nothing_came = self._comparison is not None and not self._comparison.matched
            self._refused = nothing_came and isinstance(error.__cause__, ssl.SSLError)

    def _answers(self, chunk: bytes | bytearray) -> bool:
        """Whether everything sent is answered with this chunk."""
        if self._comparison is None:
            return True
        try:
            self._comparison.feed(chunk)
        except EchoMismatch:
            self._comparison = None
            return True
        self._comparison.forget()
        return self._comparison.complete
