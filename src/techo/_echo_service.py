"""The echo service as users create it: its values are checked, its faults injected."""

from __future__ import annotations

import contextlib
import inspect
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from techo._nursery import check_trio_runs, open_bare_nursery
from techo._one_endpoint import OneEndpoint
from techo._server.hook import ServiceHook
from techo._server.limits import Limits
from techo._server.registry import Statistics
from techo._server.service import Service, closing
from techo._transport.transport import Transport
from techo._validation import FLAG, Requirement
from techo.endpoint import Endpoint
from techo.reply import Reply, stamped

if TYPE_CHECKING:
    from techo._faults.values import Fault, FaultEvent
    from techo._injection import FaultInjector


def _is_reply(value: Any) -> bool:
    call = getattr(value, "__call__", None)  # noqa: B004  -- of an object, to look at it
    functions = (value, call, getattr(value, "func", None))  # of a functools.partial
    return callable(value) and not any(map(inspect.iscoroutinefunction, functions))


def _check_faults(faults: Any) -> None:
    if faults or not isinstance(faults, Sequence):
        from techo._faults.values import FAULTS  # noqa: PLC0415  -- a good server has none

        FAULTS.check(faults=faults)


_REPLY: Final = Requirement(
    "a plain function from bytes to bytes, such as techo.raw or techo.stamped", _is_reply
)
_LIMITS: Final = Requirement("of techo.Limits", lambda value: isinstance(value, Limits))
_CONTEXT: Final = Requirement(
    "an ssl.SSLContext", lambda value: isinstance(value, ssl.SSLContext)
).or_off()


@attrs.frozen(eq=False, repr=False)
class EchoService(OneEndpoint):
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
    """What is to go wrong, of `techo.testing`; without any, nothing does. `set_faults` changes
    it."""
    seed: int = attrs.field(default=0, kw_only=True)
    """What chance depends on: the same seed and connection, the same faults."""
    hook: ServiceHook | None = attrs.field(default=None, kw_only=True)
    """Where socket options, access and metrics attach; None costs nothing."""
    _injector: FaultInjector | None = attrs.field(init=False)
    _service: Service = attrs.field(init=False)

    @_injector.default
    def _make_injector(self) -> FaultInjector | None:
        # Here, because validators of attrs come after what is made of the values.
        _REPLY.check(reply=self.reply)
        _LIMITS.check(limits=self.limits)
        _CONTEXT.check(tls=self.tls)
        _check_faults(self.faults)
        if not self.faults:
            return None
        from techo._faults.plan import Planner  # noqa: PLC0415  -- as above
        from techo._injection import FaultInjector  # noqa: PLC0415  -- as above

        return FaultInjector(Planner(self.faults, self.seed))

    @_service.default
    def _make_service(self) -> Service:
        return Service(
            self.reply, self.limits, self.tls, self.unix_mode, self.hook, self._injector
        )

    def __repr__(self) -> str:
        places = "".join(f"{endpoint}, " for endpoint in self.endpoints)
        name = getattr(self.reply, "__name__", type(self.reply).__name__)
        return f"EchoService({name}, {places}{self.statistics()!r})"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What `serve` is listening on now: one for each socket, with the real port."""
        return tuple(self._service.endpoints)

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """The faults that were put into effect, the last 100,000 of them, the latest last."""
        return () if self._injector is None else tuple(self._injector.planner.events)

    def set_faults(self, *faults: Fault, running: bool = False) -> None:
        """Let these go wrong in place of what did, with all that is accepted from now on.

        Without any, nothing goes wrong any more. `first`, `skip` and `every` count from now on;
        the numbers of connections, the seed and the time of `between` go on.

        Connections that are open keep what was planned for them, unless `running`: then they
        are planned anew, the oldest first, as if they came now, and `after` and `offset` count
        from now. What a fault held up goes on, and what belongs to the beginning of a
        connection, such as `Refuse`, does not happen to them. Replies to datagrams that wait
        for their time keep it.

        Raises:
            ValueError: one is no fault, or cannot happen where the service listens; what was in
                force stays.
        """
        _check_faults(faults)
        FLAG.check(running=running)
        service, injector = self._service, self._injector
        if faults and injector is None:
            from techo._faults.plan import Planner  # noqa: PLC0415  -- as above
            from techo._injection import FaultInjector  # noqa: PLC0415  -- as above

            begun = min(service.checked.values(), default=None)
            planner = Planner(
                (), self.seed, begun=begun, connections=self.statistics().accepted
            )
            injector = FaultInjector(planner)
        if injector is not None:
            injector.set_faults(faults, service.checked, service.registry if running else ())
            service.intercept(injector)
        # Frozen is what it is to its users.
        object.__setattr__(self, "_injector", injector)
        object.__setattr__(self, "faults", faults)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        return self._service.statistics()

    async def handle(self, stream: trio.abc.Stream | Transport) -> None:
        """Echo on one stream until the peer has finished or a limit ends it.

        A `trio.SSLStream` is given `Limits.handshake_timeout` for its handshake first. Always
        closes the stream. Never raises an `Exception`: what the peer or the reply function did
        wrong is counted and logged. Faults that the stream does not know do nothing here;
        `serve` refuses them. Cancellation closes the stream at once and is counted as
        `Outcome.ABORTED`.
        """
        await self._service.handler.handle(stream)

    async def serve(  # noqa: ASYNC128  -- the service does
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
                fault cannot happen there, or a listener or descriptor is given twice, or
                ``tls+fd:N`` is no TCP listener. A descriptor that is refused stays open.
            OSError: a name is unknown or an address can't be bound; its `filename` is the
                endpoint. Nothing is left listening.
            RuntimeError: the service was drained before.
        """
        await self._service.serve(*places, task_status=task_status)

    def leave(self) -> None:
        """From now on end each connection together with its next reply; go on accepting.

        So clients move elsewhere one by one, none of them in mid-message, while a balancer
        learns that nobody should be sent here any more. `drain` ends the rest.
        """
        self._service.leave()

    async def drain(self) -> None:
        """Stop accepting, end every connection as soon as no reply is pending, and return.

        Connections that are quiet end at once, busy ones when they pause; a peer that only
        sends on when it is answered is made to pause by holding its reply back. What is left
        after `Limits.drain_timeout` is aborted. If there are very many, aborting the quiet ones
        begins earlier; they get their end-of-file as well. Calling it again waits for the same
        end. Cancelling any of these calls aborts what is left. `serve` accepts nothing after
        this; connections that come by way of `handle` are answered once and end likewise.
        """
        await self._service.drain()


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
        RuntimeError: it is not trio that runs here.
    """
    check_trio_runs("open_thread_server")
    async with closing(places), open_bare_nursery() as nursery:
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
