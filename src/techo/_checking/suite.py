"""The suite: all checks of one echo service, one after the other."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import Final, cast

import attrs
import trio

from techo._checking.context import (
    Check,
    CheckReport,
    Context,
    EchoServiceError,
    Place,
    Trace,
    Verdict,
    carry_out,
)
from techo._checking.datagram_checks import DATAGRAM_CHECKS, Prober
from techo._checking.names import CHECK_NAMES
from techo._checking.stream_checks import STREAM_CHECKS
from techo._client.client import EchoClient
from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._printable import did_you_mean, quoted
from techo._probing.target import Call, Opener, opener_of
from techo._tls.alerts import received
from techo._transport.connect import Dial, Step
from techo._transport.messages import DatagramTransport
from techo._transport.transport import Transport
from techo._validation import COUNT, SECONDS_ABOVE_0
from techo.endpoint import Endpoint, Kind
from techo.reply import Reply, raw, stamped

_FIRST_ANSWER: Final = 2.0
"""Seconds for the first datagram to be answered; then others are asked who may answer."""


async def check_echo_service(
    service: Endpoint | str | Callable[[], Awaitable[trio.abc.Stream]],
    *,
    reply: Reply | None = raw,
    patience: float = 10.0,
    connections: int = 100,
    skip: Collection[str] = (),
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
    watch: Callable[[Check], object] | None = None,
) -> CheckReport:
    """Check all that an echo service must do; return the report if nothing failed.

    `service` is an endpoint, with `tls` and `server_name` as for `open_client`, or an async
    function that opens a new stream to the service each time. Datagrams need an endpoint.

    Each check takes `patience` seconds and a moment at most, whatever the service does, and
    all of them a few tens of MiB. They send some 40 MiB; the one for back-pressure sends until
    the service makes it wait, 64 MiB at most. `connections` are open at once in the last one.
    If not even one byte comes back, those that depend on it are not tried.

    Args:
        service: what to check.
        reply: `raw` or `stamped`, as it must reply, or None to find out how it does.
        patience: seconds that each check may take.
        connections: how many the service must serve at once.
        skip: names of checks to leave out, such as "back-pressure".
        tls: which certificates to accept; by default, those that the system trusts.
        server_name: which name they must have; by default the host's.
        options: those of each socket, but for a port to connect from.
        watch: called with each check as soon as it is done.

    Raises:
        EchoServiceError: something failed; `report` is all of it.
        ValueError: an argument makes no sense.
        OSError: it could not be reached at the first attempt, as `TimeoutError` if nothing
            answers; or this machine has fallen short, of descriptors for example, which says
            nothing about the service.
    """
    if reply not in (raw, stamped, None):
        raise ValueError(f"reply {reply!r} is neither raw, nor stamped, nor None")
    SECONDS_ABOVE_0.or_off(math.inf).check(patience=patience)
    COUNT.check(connections=connections)
    if unknown := sorted(set(skip) - set(CHECK_NAMES)):
        near = did_you_mean(unknown[0], CHECK_NAMES) or f"; there are {', '.join(CHECK_NAMES)}"
        raise ValueError(f"no check {quoted(unknown[0])}{near}")
    if callable(service) and (tls is not None or server_name is not None):
        raise ValueError("tls and server_name go with an endpoint, not with a function")
    datagrams = not callable(service) and Endpoint.parse(str(service)).kind is Kind.UDP
    if options.send_proxy is not None and datagrams:
        raise ValueError(
            f"send_proxy {options.send_proxy!r}: the datagrams that are checked have no header"
        )
    # Even one after the other: the port of a connection stays taken for a while.
    opening = _Opening(opener_of(service, tls, server_name, options, max(2, connections)))
    context = Context(opening.open, reply, patience, connections, options)
    await _see_what_there_is(context, opening)
    report = await _run(context, frozenset(skip), watch)
    if not report.passed:
        raise EchoServiceError(report)
    return report


@attrs.define(eq=False)
class _Opening:
    """What opens connections to the service."""

    opener: Opener
    dial: Dial | Call = attrs.field(init=False)
    """The latest attempt."""

    async def open(self) -> Transport:
        """Open one more."""
        self.dial = self.opener()
        return (await self.dial).transport


async def _see_what_there_is(context: Context, opening: _Opening) -> None:
    """Connect once, to see how the service is reached and whether it lets us in.

    Raises:
        OSError: it can't be reached, or doesn't; `socket.gaierror` if no look-up ended in time.
    """
    with trio.move_on_after(context.patience) as scope:
        async with context.opened() as transport:
            scope.deadline = math.inf  # it was reached, whatever it does now
            if transport.secure:
                await _see_whether_refused(transport, min(_FIRST_ANSWER, context.patience))
    if scope.cancelled_caught and opening.dial.step is Step.LOOKUP:
        raise socket.gaierror(socket.EAI_AGAIN, f"no look-up within {context.patience:g} s")
    if scope.cancelled_caught:
        raise TimeoutError(f"no connection within {context.patience:g} s")
    context.connectionless = transport.connectionless
    if transport.connectionless:
        await _find_anybody(context)


async def _see_whether_refused(transport: Transport, patience: float) -> None:
    """See whether the server lets us in; over TLS 1.3 an alert comes after our handshake.

    Raises:
        ssl.SSLError: it does not, such as without a certificate of ours.
    """
    try:
        with trio.move_on_after(patience), contextlib.suppress(trio.BrokenResourceError):
            await transport.send(b"\n")
        with trio.move_on_after(patience):
            await transport.receive()
    except trio.BrokenResourceError as error:
        below = error.__cause__
        if isinstance(below, ssl.SSLError) and received(below) is not None:
            raise below from None


async def _run(
    context: Context, skip: frozenset[str], watch: Callable[[Check], object] | None
) -> CheckReport:
    """Do the checks that fit the way in which the service is reached."""
    checks = DATAGRAM_CHECKS if context.connectionless else STREAM_CHECKS
    done: list[Check] = []
    silent = False
    for name, function in checks.items():
        if name in skip:
            check = Check(name, Verdict.SKIPPED, "not wanted")
        elif silent:
            check = Check(name, Verdict.NOT_TRIED, "nothing comes back")
        else:
            check = await carry_out(name, function, context)
            silent = name == "1-byte" and bool(check.sent) and not check.received
        done.append(check)
        if watch is not None:
            watch(check)
    return CheckReport(tuple(done), context.reply, context.multipath.so_far())


async def _find_anybody(context: Context) -> None:
    """See whether datagrams are answered at all, which connecting does not show.

    Raises:
        OSError: they are not; `ConnectionRefusedError` if the system reports it.
    """
    probe = os.urandom(16)
    async with context.opened() as transport:
        client, datagrams = EchoClient(transport), cast("DatagramTransport", transport)
        answered = False
        for _ in range(2):
            with trio.move_on_after(min(_FIRST_ANSWER, context.patience) / 2):
                await client.round_trip(probe)
                answered = True
                break
        one = datagrams.one
        context.place = Place(
            one.socket.family, one.peer, one.socket.getpeername(), one.largest
        )
    if answered:
        return
    # The answer may be wrong, or come from another address.
    prober = Prober.open(context, Trace())
    with prober.socket:
        if await prober.ask(probe) is None:
            raise TimeoutError("no datagram was answered")
