"""The kit: all checks of one echo service, one after the other."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeVar, cast

import attrs
import trio

from techo._checking.correspondent import Correspondent
from techo._checking.datagram_checks import DATAGRAM_CHECKS
from techo._checking.report import Check, CheckReport, EchoServiceError, Verdict
from techo._checking.stream_checks import STREAM_CHECKS
from techo._checking.subject import CheckFunction, Subject, Trace, carry_out
from techo._client.connecting import connect
from techo._client.datagram_socket import DatagramSocket
from techo.endpoint import Endpoint
from techo.reply import Reply, raw, stamped

CHECK_NAMES: Final = tuple(dict.fromkeys([*STREAM_CHECKS, *DATAGRAM_CHECKS]))
"""All that can be skipped."""

_FIRST_WORD: Final = 2.0
"""Seconds for the first datagram to be answered; then others are asked who may answer."""

LineT = TypeVar("LineT", bound=trio.abc.Stream | DatagramSocket)


async def check_echo_service(
    service: Endpoint | str | Callable[[], Awaitable[trio.abc.Stream]],
    *,
    reply: Reply | None = raw,
    patience: float = 10.0,
    connections: int = 100,
    skip: Collection[str] = (),
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    watch: Callable[[Check], object] | None = None,
) -> CheckReport:
    """Try out all that an echo service must do; give the report if nothing failed.

    `service` is an endpoint, with `tls` and `server_name` as for `open_client`, or an async
    function that gives a fresh stream to the service each time. Datagrams need an endpoint.

    Each check takes `patience` seconds and a moment at most, whatever the service does, and
    all of them a few tens of MiB. They send some 40 MiB; the one for back-pressure sends until
    the service makes it wait, 64 MiB at most. `connections` are open at once in the last one.
    If not even one byte comes back, those that depend on it are not tried.

    Args:
        service: what to check.
        reply: `raw` or `stamped`, which it must say, or None to find out which it says.
        patience: seconds that each check may take.
        connections: how many the service must serve at once.
        skip: names of checks to leave out, such as "back-pressure".
        tls: whom to trust; by default, whom the system trusts.
        server_name: whose certificate to expect; by default the host's.
        watch: called with each check as soon as it is done.

    Raises:
        EchoServiceError: something failed; `report` is all of it.
        ValueError: an argument makes no sense.
        OSError: it could not be reached at the first attempt, as `TimeoutError` if nothing
            answers.
    """
    if reply not in (raw, stamped, None):
        raise ValueError(f"reply {reply!r} is neither raw, nor stamped, nor None")
    if not patience > 0:
        raise ValueError(f"patience {patience!r} is not more than 0 s")
    if connections < 1:
        raise ValueError(f"connections {connections!r} is not at least 1")
    if unknown := sorted(set(skip) - set(CHECK_NAMES)):
        raise ValueError(f"no check {unknown[0]!r}; there are {', '.join(CHECK_NAMES)}")
    opener: Callable[[], Awaitable[trio.abc.Stream | DatagramSocket]]
    if not callable(service):
        opener = functools.partial(connect, service, tls=tls, server_name=server_name)
    elif tls is None and server_name is None:
        opener = service
    else:
        raise ValueError("tls and server_name go with an endpoint, not with a function")
    course = _Course(reply, patience, connections, frozenset(skip), watch)
    report = await course.run(opener)
    if not report.passed:
        raise EchoServiceError(report)
    return report


@attrs.define(eq=False)
class _Course:
    """One run through the checks that fit what the service is reached by."""

    reply: Reply | None
    patience: float
    connections: int
    skip: frozenset[str]
    watch: Callable[[Check], object] | None
    _done: list[Check] = attrs.field(factory=list)

    async def run(
        self, opener: Callable[[], Awaitable[trio.abc.Stream | DatagramSocket]]
    ) -> CheckReport:
        with trio.move_on_after(self.patience) as scope:
            async with self._subject(opener).opened() as line:
                pass  # it was only to see what there is
        if scope.cancelled_caught:
            raise TimeoutError(f"no connection within {self.patience:g} s")
        if isinstance(line, DatagramSocket):
            datagrams = self._subject(cast("Callable[[], Awaitable[DatagramSocket]]", opener))
            await _find_anybody(datagrams)
            return await self._do(datagrams, DATAGRAM_CHECKS)
        streams = self._subject(cast("Callable[[], Awaitable[trio.abc.Stream]]", opener))
        return await self._do(streams, STREAM_CHECKS)

    def _subject(self, opener: Callable[[], Awaitable[LineT]]) -> Subject[LineT]:
        return Subject(opener, self.reply, self.patience, self.connections)

    async def _do(
        self, subject: Subject[LineT], checks: dict[str, CheckFunction[LineT]]
    ) -> CheckReport:
        silent = False
        for name, function in checks.items():
            if name in self.skip:
                check = Check(name, Verdict.NOT_APPLICABLE, "not wanted")
            elif silent:
                check = Check(name, Verdict.NOT_APPLICABLE, "not tried: nothing comes back")
            else:
                check = await carry_out(name, function, subject)
                silent = name == "1-byte" and bool(check.sent) and not check.received
            self._done.append(check)
            if self.watch is not None:
                self.watch(check)
        return CheckReport(tuple(self._done), subject.reply)


async def _find_anybody(subject: Subject[DatagramSocket]) -> None:
    """See whether anybody answers datagrams: connecting says nothing of that.

    Raises:
        OSError: nobody does; `ConnectionRefusedError` if the system says so.
    """
    probe = os.urandom(16)
    async with subject.opened() as line:
        for _ in range(2):
            with trio.move_on_after(min(_FIRST_WORD, subject.patience) / 2):
                await line.exchange(probe)
                return
    # The answer may be wrong, or come from somebody else.
    correspondent = await Correspondent.open(subject, Trace())
    with correspondent.socket:
        if await correspondent.ask(probe) is None:
            raise TimeoutError("no datagram was answered")
