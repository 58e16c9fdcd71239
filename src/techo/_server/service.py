"""The echo service: one handler with its limits, and the sockets it is served on."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Final

import attrs
import trio

from techo._faults.certificates import bad_context
from techo._faults.plan import Planner, check_applicable
from techo._faults.values import ExpiredCertificate, Fault, FaultEvent, WrongName
from techo._nursery import open_bare_nursery
from techo._server.datagrams import DatagramService
from techo._server.handling import Handling
from techo._server.ledger import Ledger, Statistics
from techo._server.limits import Limits
from techo._server.listening import Listening
from techo.endpoint import Endpoint
from techo.reply import Reply, stamped

_log = logging.getLogger("techo.server")

_QUIET: Final = 0.25
"""Seconds: while draining, a pause this long counts as the end of a message. It spans a round
trip on nearly any network, so a sender in mid-message makes none."""

_QUIET_SHARE: Final = 1 / 20
"""The same as a share of the drain time, for those who allow little of it."""


@attrs.frozen(eq=False)
class EchoService:
    """Answers whatever arrives on a stream or as a datagram, within limits.

    `handle` is a plain trio handler, to be given to `trio.serve_tcp` and the like; `serve`
    does that for endpoints of every kind. A service that was drained is over: make another.
    """

    reply: Reply = stamped
    limits: Limits = attrs.field(factory=Limits, kw_only=True)
    tls: ssl.SSLContext | None = attrs.field(default=None, kw_only=True)
    """What tls endpoints are served with: a server's context with its certificate."""
    unix_mode: int | None = attrs.field(default=None, kw_only=True)
    """Permissions of Unix paths, such as 0o660; None leaves them to the umask."""
    faults: Sequence[Fault] = attrs.field(default=(), kw_only=True)
    """What is to go wrong, of `techo.testing`; without any, nothing does."""
    seed: int = attrs.field(default=0, kw_only=True)
    """What chance depends on: the same seed and connection, the same faults."""
    _endpoints: list[Endpoint] = attrs.field(factory=list, init=False)
    _ledger: Ledger = attrs.field(init=False)
    _accepting: dict[trio.CancelScope, trio.Event] = attrs.field(factory=dict, init=False)
    _planner: Planner | None = attrs.field(init=False)
    _handling: Handling = attrs.field(init=False)
    _datagrams: DatagramService = attrs.field(init=False)

    @_ledger.default
    def _make_ledger(self) -> Ledger:
        return Ledger(self.limits.max_connections, self.limits.max_per_host)

    @_planner.default
    def _make_planner(self) -> Planner | None:
        return Planner(self.faults, self.seed) if self.faults else None

    @_handling.default
    def _make_handling(self) -> Handling:
        return Handling(self.reply, self.limits, self.tls, self._ledger, self._planner)

    @_datagrams.default
    def _make_datagram_service(self) -> DatagramService:
        return DatagramService(self.reply, self.limits, self._planner)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What `serve` is listening on now: one for each socket, with the real port."""
        return tuple(self._endpoints)

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """The faults that were put into effect, the last 100,000 of them, the latest last."""
        return () if self._planner is None else tuple(self._planner.events)

    def statistics(self) -> Statistics:
        """Take a snapshot of the counters."""
        return self._ledger.statistics(self._datagrams.statistics())

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Echo on one stream until the peer has finished or a limit ends it.

        A `trio.SSLStream` is given `Limits.handshake_timeout` for its handshake first. Always
        closes the stream. Never raises an `Exception`: what the peer or the reply function did
        wrong ends in the statistics and in the log. Faults that the stream does not know do
        nothing here; `serve` refuses them. Cancellation closes the stream at once and is
        counted as `Outcome.ABORTED`.
        """
        await self._handling.handle(stream)

    async def serve(
        self,
        *endpoints: Endpoint | str,
        task_status: trio.TaskStatus[tuple[Endpoint, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve `endpoints` (by default tcp://127.0.0.1:8009) until drained or cancelled.

        With ``await nursery.start(service.serve, "tcp://127.0.0.1:0")`` it returns what was
        bound, one endpoint for each socket, with the real port. Returns once `drain` has
        ended the last connection; cancellation closes everything at once.

        Raises:
            ValueError: a text is no endpoint, or it is a tls one and there is no `tls`, or a
                fault cannot happen there.
            OSError: a name is unknown or an address can't be bound; its `filename` is the
                endpoint. Nothing is left listening.
            RuntimeError: the service was drained before.
        """
        if self._handling.quiet is not None:
            raise RuntimeError("this EchoService was drained; make a new one to serve again")
        wanted = [
            each if isinstance(each, Endpoint) else Endpoint.parse(each)
            for each in endpoints or (Endpoint(),)
        ]
        inherited = [each for each in wanted if each.descriptor is not None]
        if len(set(inherited)) < len(inherited):
            raise ValueError("a descriptor is closed when it was served: give each only once")
        closed = trio.Event()
        bound: list[Endpoint] = []
        listening = False
        # Handlers outlive the accept loops: draining closes the listeners first.
        async with open_bare_nursery() as handlers:
            try:
                async with open_bare_nursery() as accepting:
                    self._accepting[accepting.cancel_scope] = closed
                    listening_ = Listening(
                        self.handle,
                        self._datagrams.serve,
                        handlers,
                        self.limits.backlog,
                        self.tls,
                        self._handling.begin_tls if self.faults else None,
                        self._check,
                        self.unix_mode,
                    )
                    for endpoint in wanted:
                        bound += await accepting.start(listening_.on, endpoint)
                    self._endpoints.extend(bound)
                    listening = True
                    task_status.started(tuple(bound))
            finally:
                del self._accepting[accepting.cancel_scope]
                self._endpoints[:] = [each for each in self._endpoints if each not in bound]
                closed.set()
        if not listening:
            raise RuntimeError("this EchoService was drained before it was listening")

    def _check(self, endpoint: Endpoint) -> None:
        check_applicable(self.faults, endpoint.kind, endpoint)
        for fault in self.faults:
            if isinstance(fault, ExpiredCertificate | WrongName):
                bad_context(fault)  # whatever is wrong with it is wrong before anybody connects

    async def drain(self) -> None:
        """Stop accepting, let go of every connection as soon as it owes nothing, and return.

        Connections that are quiet end at once, busy ones when they pause; a peer that only
        sends on when it is answered is made to pause by holding its answer back. What is left
        after `Limits.drain_timeout` is cut. Calling it again waits for the same end.
        Cancellation cuts what is left. `serve` accepts nothing after this; whoever comes by
        way of `handle` is answered once and let go likewise.
        """
        if self._handling.quiet is not None:
            return await self._ledger.wait_empty()
        timeout = self.limits.drain_timeout
        self._handling.quiet = min(_QUIET, timeout * _QUIET_SHARE)
        try:
            self._datagrams.draining = True
            with trio.move_on_after(timeout):
                await self._stop_accepting()
                for connection in self._ledger:
                    connection.hurry(self._handling.quiet)
                await self._ledger.wait_empty()
        finally:
            for connection in self._ledger:
                connection.cut()
        return await self._ledger.wait_empty()

    async def _stop_accepting(self) -> None:
        for scope in self._accepting:
            scope.cancel(reason="draining")
        for closed in tuple(self._accepting.values()):
            await closed.wait()


@contextlib.asynccontextmanager
async def open_server(
    *endpoints: Endpoint | str,
    reply: Reply = stamped,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    unix_mode: int | None = None,
    faults: Sequence[Fault] = (),
    seed: int = 0,
) -> AsyncIterator[EchoService]:
    """Serve `endpoints` (by default tcp://127.0.0.1:8009) for the length of a block.

    Gives the `EchoService`, which is listening: `EchoService.endpoints` says where. Leaving
    the block drains it; leaving it by an exception or by cancellation closes everything at
    once, and the exception comes out as it was raised.

    Raises:
        ValueError: a text is no endpoint, or it is a tls one and there is no `tls`.
        OSError: a name is unknown or an address can't be bound; its `filename` is the endpoint.
    """
    service = EchoService(
        reply,
        limits=limits or Limits(),
        tls=tls,
        unix_mode=unix_mode,
        faults=faults,
        seed=seed,
    )
    async with open_bare_nursery() as nursery:
        await nursery.start(service.serve, *endpoints)
        yield service
        await service.drain()
