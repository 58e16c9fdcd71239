"""The service: one handler with its limits, and the sockets that it is served on."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import trio

from techo._log import draining, failure, note, warning
from techo._nursery import open_bare_nursery
from techo._server.datagrams import DatagramService
from techo._server.draining import Drain, quiet_for
from techo._server.handler import Handler
from techo._server.hook import ServiceHook
from techo._server.interceptor import Interceptor
from techo._server.limits import Limits
from techo._server.listening import Listener, Listening
from techo._server.registry import Registry, Statistics
from techo.endpoint import Endpoint
from techo.reply import Reply


@attrs.frozen(eq=False)
class Service:
    """Serves endpoints of every kind and open listeners, within limits, until drained."""

    reply: Reply
    limits: Limits
    tls: ssl.SSLContext | None
    unix_mode: int | None
    hook: ServiceHook | None
    interceptor: Interceptor | None
    registry: Registry = attrs.field(init=False)
    handler: Handler = attrs.field(init=False)
    datagrams: DatagramService = attrs.field(init=False)
    endpoints: list[Endpoint] = attrs.field(factory=list, init=False)
    """What is listened on now: one for each socket, with the real port."""
    checked: dict[tuple[str, object, bool], float] = attrs.field(factory=dict, init=False)
    """What an interceptor's `check` takes of each place to listen at, and since when it was."""
    _accepting: dict[trio.CancelScope, trio.Event] = attrs.field(factory=dict, init=False)
    _drained: trio.Event = attrs.field(factory=trio.Event, init=False)

    @registry.default
    def _make_registry(self) -> Registry:
        limits = self.limits
        return Registry(
            limits.max_connections,
            limits.max_parked if limits.when_full == "park" else 0,
            limits.max_per_host,
            limits.max_handshakes,
        )

    @handler.default
    def _make_handler(self) -> Handler:
        return Handler(
            self.reply, self.limits, self.tls, self.registry, self.interceptor, self.hook
        )

    @datagrams.default
    def _make_datagram_service(self) -> DatagramService:
        throttle = self.registry.throttle
        hook = self.hook
        if hook and type(hook).identify_datagram is ServiceHook.identify_datagram:
            hook = None  # one that does nothing need not be asked about each datagram
        return DatagramService(self.reply, self.limits, throttle, self.interceptor, hook)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        return self.registry.statistics(self.datagrams.statistics())

    async def serve(
        self,
        *places: Endpoint | str | trio.abc.Listener[Any],
        task_status: trio.TaskStatus[tuple[Endpoint, ...]],
    ) -> None:
        """Serve endpoints and open listeners, which it closes, until drained or cancelled.

        Cancellation closes everything at once.

        Raises:
            ValueError: a text is no endpoint, or cannot be served, or one is given twice.
            OSError: a name is unknown or an address can't be bound.
            RuntimeError: it was drained before.
        """
        async with closing(places), contextlib.AsyncExitStack() as end:
            for each in places:
                _check_place(each)
            if self.handler.quiet is not None:
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
                        accepting.start_soon(self.registry.throttle.run)
                        loops = self._listening(handlers)
                        for place in wanted:
                            bound += await accepting.start(loops.on, place)
                        self.endpoints.extend(bound)
                        listening = True
                        end.callback(self._note_total)
                        names = [str(each) for each in bound]
                        note("serving %s", " ".join(names), event="starting", endpoints=names)
                        task_status.started(tuple(bound))
                except Exception as error:
                    # What fails in closing the listeners must cost no connection its replies.
                    if not listening or self.handler.quiet is None:
                        raise
                    warning("closing what was listened on failed: %r", error)
                finally:
                    del self._accepting[accepting.cancel_scope]
                    self.endpoints[:] = [e for e in self.endpoints if e not in bound]
                    closed.set()
            if not listening:
                raise RuntimeError("this EchoService was drained before it was listening")

    def _note_total(self) -> None:
        """Log what was not summed up yet, and everything up to now."""
        self.registry.throttle.flush()
        note_total(self.statistics())

    def _listening(self, handlers: trio.Nursery) -> Listening:
        return Listening(
            handler=self.handler.handle,
            tls_handler=self.handler.handle_tls,
            answer_datagrams=self.datagrams.serve,
            handlers=handlers,
            backlog=self.limits.backlog,
            tls=self.tls,
            unix_mode=self.unix_mode,
            check=self._check,
            opened=self._opened,
        )

    def _check(self, transport: str, place: object, *, secure: bool = False) -> None:
        if self.handler.interceptor is not None:
            self.handler.interceptor.check(transport, place, secure=secure)
        self.checked.setdefault((transport, place, secure), trio.current_time())

    def _opened(self, sock: socket.socket | trio.socket.SocketType) -> None:
        if self.hook is not None:
            self.hook.socket_opened(sock, listening=True)

    def intercept(self, interceptor: Interceptor) -> None:
        """Have an interceptor asked about all that comes from now on."""
        self.handler.interceptor = interceptor
        self.datagrams.intercept(interceptor)

    def leave(self) -> None:
        """End each connection together with its next reply, and go on accepting."""
        self.handler.leaving = True
        for each in self.registry:
            each.leave(self.limits.close_timeout)

    async def drain(self) -> None:
        """Stop accepting, end every connection once no reply is pending, and return.

        Every call waits for the same end; cancelling any aborts what is left.
        """
        timeout = self.limits.drain_timeout
        first, quiet = self.handler.quiet is None, quiet_for(timeout)
        deadline = trio.current_time() + timeout
        drain = Drain(self.registry, self.limits.close_timeout, quiet, deadline)
        try:
            if first:
                self.handler.quiet, self.datagrams.draining = quiet, True
                active, places = len(self.registry), [str(each) for each in self.endpoints]
                if active or places:
                    note(draining(active), event="draining", endpoints=places, active=active)
                await self._drain(drain)
            else:
                await self._drained.wait()
        finally:
            drain.abort()
            self._drained.set()
            self.registry.throttle.flush()
        await drain.settle()

    async def _drain(self, drain: Drain) -> None:
        with trio.move_on_at(drain.deadline):
            await self._stop_accepting()
            await drain.run()
        if trio.current_time() > drain.deadline + drain.quiet:
            # Nobody ran us for a while, and what has come meanwhile is still answered.
            with trio.move_on_after(2 * drain.quiet):
                await self.registry.wait_below(1)

    async def _stop_accepting(self) -> None:
        for scope in self._accepting:
            scope.cancel(reason="draining")
        for closed in tuple(self._accepting.values()):
            await closed.wait()


def note_total(total: Statistics) -> None:
    """Log everything up to now."""
    shown = repr(total).replace("DatagramStatistics", "").removeprefix("Statistics(")[:-1]
    note("stopped; in total %s", shown or "nothing", event="total", **attrs.asdict(total))


@contextlib.asynccontextmanager
async def closing(places: Sequence[object]) -> AsyncIterator[None]:
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
        ("fd", each.descriptor) if isinstance(each, Endpoint) else id(each)
        for each in places
        if not isinstance(each, Endpoint) or each.descriptor is not None
    ]
    if len(set(owned)) < len(owned):
        raise ValueError(
            "a descriptor or listener is closed when it was served: give each only once"
        )
