"""The echo service: one handler with its limits, and the sockets it is served on."""

from __future__ import annotations

import contextlib
import inspect
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import attrs
import trio

from techo._faults.certificates import bad_context
from techo._faults.plan import Planner, check_applicable
from techo._faults.values import ExpiredCertificate, Fault, FaultEvent, WrongName
from techo._log import draining, failure, note, warning
from techo._nursery import open_bare_nursery
from techo._server.datagrams import DatagramService
from techo._server.draining import Drain, quiet_for
from techo._server.handler import Handler
from techo._server.hook import ServiceHook
from techo._server.limits import Limits
from techo._server.listening import Listener, Listening
from techo._server.registry import Registry, Statistics
from techo._transport.transport import Transport
from techo._validation import Requirement
from techo.endpoint import Endpoint
from techo.reply import Reply, stamped


def _is_reply(value: Any) -> bool:
    call = getattr(value, "__call__", None)  # noqa: B004  -- of an object, to look at it
    functions = (value, call, getattr(value, "func", None))  # of a functools.partial
    return callable(value) and not any(map(inspect.iscoroutinefunction, functions))


_REPLY: Final = Requirement(
    "a plain function from bytes to bytes, such as techo.raw or techo.stamped", _is_reply
)
_LIMITS: Final = Requirement("of techo.Limits", lambda value: isinstance(value, Limits))
_CONTEXT: Final = Requirement(
    "an ssl.SSLContext", lambda value: isinstance(value, ssl.SSLContext)
).or_off()
_FAULTS: Final = Requirement(
    "a list of faults of techo.testing",
    lambda value: isinstance(value, Sequence) and all(isinstance(f, Fault) for f in value),
)


@attrs.frozen(eq=False, repr=False)
class EchoService:
    """Answers whatever arrives on a stream or as a datagram, within limits.

    `handle` is a plain trio handler, to be given to `trio.serve_tcp` and the like; `serve`
    does that for endpoints of every kind and for open listeners. A service that was drained
    is over: create another.

    Raises:
        ValueError: a value that is of another kind; the text names it.
    """

    reply: Reply = stamped
    """What is sent back for each chunk or datagram."""
    limits: Limits = attrs.field(factory=Limits, kw_only=True)
    """What peers may do."""
    tls: ssl.SSLContext | None = attrs.field(default=None, kw_only=True)
    """What tls endpoints are served with: a server's context with its certificate."""
    unix_mode: int | None = attrs.field(default=None, kw_only=True)
    """Permissions of Unix paths, such as 0o660; None leaves them to the umask."""
    faults: Sequence[Fault] = attrs.field(default=(), kw_only=True)
    """What is to go wrong, of `techo.testing`; without any, nothing does."""
    seed: int = attrs.field(default=0, kw_only=True)
    """What chance depends on: the same seed and connection, the same faults."""
    hook: ServiceHook | None = attrs.field(default=None, kw_only=True)
    """Where socket options, access and metrics attach; None costs nothing."""
    _endpoints: list[Endpoint] = attrs.field(factory=list, init=False)
    _registry: Registry = attrs.field(init=False)
    _accepting: dict[trio.CancelScope, trio.Event] = attrs.field(factory=dict, init=False)
    _drained: trio.Event = attrs.field(factory=trio.Event, init=False)
    _planner: Planner | None = attrs.field(init=False)
    _handler: Handler = attrs.field(init=False)
    _datagrams: DatagramService = attrs.field(init=False)

    @_registry.default
    def _make_registry(self) -> Registry:
        # Here, because validators of attrs come after what is made of the values.
        _REPLY.check(reply=self.reply)
        _LIMITS.check(limits=self.limits)
        _CONTEXT.check(tls=self.tls)
        _FAULTS.check(faults=self.faults)
        return Registry(self.limits.max_connections, self.limits.max_per_host)

    @_planner.default
    def _make_planner(self) -> Planner | None:
        return Planner(self.faults, self.seed) if self.faults else None

    @_handler.default
    def _make_handler(self) -> Handler:
        return Handler(
            self.reply, self.limits, self.tls, self._registry, self._planner, self.hook
        )

    @_datagrams.default
    def _make_datagram_service(self) -> DatagramService:
        throttle = self._registry.throttle
        return DatagramService(self.reply, self.limits, throttle, self._planner)

    def __repr__(self) -> str:
        places = "".join(f"{endpoint}, " for endpoint in self.endpoints)
        name = getattr(self.reply, "__name__", type(self.reply).__name__)
        return f"EchoService({name}, {places}{self.statistics()!r})"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What `serve` is listening on now: one for each socket, with the real port."""
        return tuple(self._endpoints)

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """The faults that were put into effect, the last 100,000 of them, the latest last."""
        return () if self._planner is None else tuple(self._planner.events)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        return self._registry.statistics(self._datagrams.statistics())

    async def handle(self, stream: trio.abc.Stream | Transport) -> None:
        """Echo on one stream until the peer has finished or a limit ends it.

        A `trio.SSLStream` is given `Limits.handshake_timeout` for its handshake first. Always
        closes the stream. Never raises an `Exception`: what the peer or the reply function did
        wrong is counted and logged. Faults that the stream does not know do nothing here;
        `serve` refuses them. Cancellation closes the stream at once and is counted as
        `Outcome.ABORTED`.
        """
        await self._handler.handle(stream)

    async def serve(
        self,
        *places: Endpoint | str | trio.abc.Listener[Any],
        task_status: trio.TaskStatus[tuple[Endpoint, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve endpoints (by default tcp://127.0.0.1:8009) until drained or cancelled.

        With ``await nursery.start(service.serve, "tcp://127.0.0.1:0")`` it returns what was
        bound, one endpoint for each socket, with the real port. Returns once `drain` has
        ended the last connection; cancellation closes everything at once.

        Instead of an endpoint it takes a listener that is open already, such as one of
        `trio.open_tcp_listeners`, which belongs to this call from now on: it is closed when
        this ends, however that is. An endpoint is reported for it if it has a socket.

        Raises:
            ValueError: a text is no endpoint, or it is a tls one and there is no `tls`, or a
                fault cannot happen there, or a listener or descriptor is given twice.
            OSError: a name is unknown or an address can't be bound; its `filename` is the
                endpoint. Nothing is left listening.
            RuntimeError: the service was drained before.
        """
        async with _closing(places), contextlib.AsyncExitStack() as end:
            for each in places:
                _check_place(each)
            if self._handler.quiet is not None:
                raise RuntimeError("this EchoService was drained; create a new one")
            wanted = [
                Endpoint.parse(each) if isinstance(each, str) else each
                for each in places or (Endpoint(),)
            ]
            _check_owned_once(wanted)
            closed = trio.Event()
            bound: list[Endpoint] = []
            listening = False
            # Handlers outlive the accept loops: draining closes the listeners first.
            async with open_bare_nursery() as handlers:
                try:
                    async with open_bare_nursery() as accepting:
                        self._accepting[accepting.cancel_scope] = closed
                        accepting.start_soon(self._registry.throttle.run)
                        loops = self._listening(handlers)
                        for place in wanted:
                            bound += await accepting.start(loops.on, place)
                        self._endpoints.extend(bound)
                        listening = True
                        end.callback(self._note_total)
                        names = [str(each) for each in bound]
                        note("serving %s", " ".join(names), event="starting", endpoints=names)
                        task_status.started(tuple(bound))
                except Exception as error:
                    # What fails in closing the listeners must cost no connection its replies.
                    if not listening or self._handler.quiet is None:
                        raise
                    warning("closing what was listened on failed: %r", error)
                finally:
                    del self._accepting[accepting.cancel_scope]
                    self._endpoints[:] = [e for e in self._endpoints if e not in bound]
                    closed.set()
            if not listening:
                raise RuntimeError("this EchoService was drained before it was listening")

    def _note_total(self) -> None:
        """Log what was not summed up yet, and everything up to now."""
        self._registry.throttle.flush()
        total = self.statistics()
        shown = repr(total).replace("DatagramStatistics", "").removeprefix("Statistics(")[:-1]
        note("stopped; in total %s", shown or "nothing", event="total", **attrs.asdict(total))

    def _listening(self, handlers: trio.Nursery) -> Listening:
        return Listening(
            handler=self._handler.handle,
            tls_handler=self._handler.handle_tls,
            answer_datagrams=self._datagrams.serve,
            handlers=handlers,
            backlog=self.limits.backlog,
            tls=self.tls,
            unix_mode=self.unix_mode,
            check=self._check,
            opened=self._opened,
        )

    def _check(self, transport: str, place: object, *, secure: bool = False) -> None:
        check_applicable(self.faults, transport, place)
        for fault in self.faults:
            if isinstance(fault, ExpiredCertificate | WrongName):
                if secure:
                    raise ValueError(
                        f"fault {fault} cannot happen on {place}: its TLS is not ours"
                    )
                bad_context(fault)  # what is wrong with it is reported before anybody connects

    def _opened(self, sock: socket.socket | trio.socket.SocketType) -> None:
        if self.hook is not None:
            self.hook.socket_opened(sock, listening=True)

    async def drain(self) -> None:
        """Stop accepting, end every connection as soon as no reply is pending, and return.

        Connections that are quiet end at once, busy ones when they pause; a peer that only
        sends on when it is answered is made to pause by holding its reply back. What is left
        after `Limits.drain_timeout` is aborted. If there are very many, aborting the quiet ones
        begins earlier; they get their end-of-file as well. Calling it again waits for the same
        end. Cancelling any of these calls aborts what is left. `serve` accepts nothing after
        this; connections that come by way of `handle` are answered once and end likewise.
        """
        timeout = self.limits.drain_timeout
        first, quiet = self._handler.quiet is None, quiet_for(timeout)
        deadline = trio.current_time() + timeout
        drain = Drain(self._registry, self.limits.close_timeout, quiet, deadline)
        try:
            if first:
                self._handler.quiet, self._datagrams.draining = quiet, True
                active, places = len(self._registry), [str(each) for each in self.endpoints]
                if active or places:
                    note(draining(active), event="draining", endpoints=places, active=active)
                await self._drain(drain)
            else:
                await self._drained.wait()
        finally:
            drain.abort()
            self._drained.set()
            self._registry.throttle.flush()
        await drain.settle()

    async def _drain(self, drain: Drain) -> None:
        with trio.move_on_at(drain.deadline):
            await self._stop_accepting()
            await drain.run()
        if trio.current_time() > drain.deadline + drain.quiet:
            # Nobody ran us for a while, and what has come meanwhile is still answered.
            with trio.move_on_after(2 * drain.quiet):
                await self._registry.wait_below(1)

    async def _stop_accepting(self) -> None:
        for scope in self._accepting:
            scope.cancel(reason="draining")
        for closed in tuple(self._accepting.values()):
            await closed.wait()


@contextlib.asynccontextmanager
async def _closing(places: Sequence[object]) -> AsyncIterator[None]:
    """Close the open listeners among `places` after a block, which may have closed them."""
    try:
        yield
    finally:
        for listener in places:
            if isinstance(listener, trio.abc.Listener):
                try:
                    await trio.aclose_forcefully(listener)  # noqa: ASYNC102  -- waits for nothing
                except Exception:  # noqa: BLE001  -- an embedder's
                    failure("closing a %s failed", type(listener).__name__)


def _check_place(place: Any) -> None:
    """Refuse what is no place to listen, by its name and what would be right."""
    if not isinstance(place, Endpoint | str | trio.abc.Listener):
        hint = f": write {str(place)!r}" if type(place) is int else ""
        raise ValueError(  # noqa: TRY004  -- as every value that is refused
            f"{place!r:.99} is not an endpoint, its text or a trio.abc.Listener{hint}"
        )


def _check_owned_once(places: Sequence[Endpoint | Listener]) -> None:
    """Refuse what `serve` would close twice."""
    owned = [
        each if isinstance(each, Endpoint) else id(each)
        for each in places
        if not isinstance(each, Endpoint) or each.descriptor is not None
    ]
    if len(set(owned)) < len(owned):
        raise ValueError(
            "a descriptor or listener is closed when it was served: give each only once"
        )


@contextlib.asynccontextmanager
async def open_server(
    *places: Endpoint | str | trio.abc.Listener[Any],
    reply: Reply = stamped,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    unix_mode: int | None = None,
    faults: Sequence[Fault] = (),
    seed: int = 0,
    hook: ServiceHook | None = None,
) -> AsyncIterator[EchoService]:
    """Serve endpoints (by default tcp://127.0.0.1:8009) for the length of a block.

    Yields the `EchoService`, which is listening: `EchoService.endpoints` are the addresses.
    Leaving the block drains it; leaving it by an exception or by cancellation closes
    everything at once, and the exception comes out as it was raised. Open listeners can stand
    in place of endpoints, as in `EchoService.serve`.

    Raises:
        ValueError: a text is no endpoint, or it is a tls one and there is no `tls`.
        OSError: a name is unknown or an address can't be bound; its `filename` is the endpoint.
    """
    async with _closing(places), open_bare_nursery() as nursery:
        service = EchoService(
            reply,
            limits=limits or Limits(),
            tls=tls,
            unix_mode=unix_mode,
            faults=faults,
            seed=seed,
            hook=hook,
        )
        await nursery.start(service.serve, *places)
        yield service
        await service.drain()
