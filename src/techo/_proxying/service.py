"""The service that a proxy is: the server's own, and the flows of datagrams beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from techo._faults.plan import Planner
from techo._faults.values import Fault
from techo._proxying.datagrams import open_flows
from techo._proxying.interception import ProxyInterceptor
from techo._proxying.kinds import untouched
from techo._proxying.target import Target
from techo._server.hook import ServiceHook
from techo._server.limits import Limits
from techo._server.registry import Statistics
from techo._server.service import Service, note_total
from techo.endpoint import SECURE, Endpoint
from techo.reply import raw


@attrs.frozen(eq=False)
class _Service(Service):
    """The server's, but flows end after it: what waits for them logs the total."""

    over: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Is set once it has listened, and does no more."""

    def _note_total(self) -> None:
        self.over.set()


@attrs.frozen(eq=False)
class ProxyService:
    """Passes on what comes to endpoints and open listeners, within limits, until drained."""

    interceptor: ProxyInterceptor
    service: Service

    @classmethod
    def of(
        cls,
        target: Target,
        limits: Limits,
        faults: Sequence[Fault],
        upstream_faults: Sequence[Fault],
        seed: int,
        *,
        unix_mode: int | None = None,
        hook: ServiceHook | None = None,
    ) -> ProxyService:
        """Return one to a target; each direction has its faults and its luck."""
        planner = Planner(faults, seed)
        upstream_planner = Planner(upstream_faults, ~seed)  # or both would have the same luck
        interceptor = ProxyInterceptor(target, limits, planner, upstream_planner)
        kind = _Service if target.datagrams else Service
        return cls(interceptor, kind(raw, limits, None, unix_mode, hook, interceptor))

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What `serve` is listening on now: one for each socket, with the real port."""
        return tuple(self.service.endpoints)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        return self.service.statistics()

    async def serve(  # noqa: ASYNC128  -- the service does
        self,
        *places: Endpoint | str | trio.abc.Listener[Any],
        task_status: trio.TaskStatus[tuple[Endpoint, ...]],
    ) -> None:
        """Pass on what comes to `places` until drained or cancelled; see `Service.serve`."""
        for each in places:
            _check_plain(each)
        interceptor, service = self.interceptor, self.service
        target = interceptor.target.place
        if not isinstance(target, Endpoint) or not isinstance(service, _Service):
            await service.serve(*places, task_status=task_status)
            return
        planners = interceptor.planner, interceptor.upstream_planner
        try:
            async with open_flows(
                target, interceptor.limits, service.registry, *planners
            ) as flows:
                interceptor.flows = flows
                await service.serve(*places, task_status=task_status)
        finally:
            if service.over.is_set():
                service.registry.throttle.flush()
                note_total(self.statistics())

    def set_faults(
        self, faults: Sequence[Fault], *, running: bool = False, upstream: bool = False
    ) -> None:
        """Replace the faults of one direction; see `Proxy.set_faults`.

        Raises:
            ValueError: one cannot happen there; the text names it, and nothing changes.
        """
        service = self.service
        connections = service.registry if running else ()
        self.interceptor.set_faults(faults, service.checked, connections, upstream=upstream)

    def leave(self) -> None:
        """Go on as before: a connection of a proxy does not end with a reply."""

    async def drain(self) -> None:
        """Stop accepting, end every connection once it is quiet, and return."""
        await self.service.drain()


def _check_plain(place: object) -> None:
    """Refuse an endpoint of TLS, for which somebody would be asked for a certificate.

    Raises:
        ValueError: it is one, or no endpoint.
    """
    found = Endpoint.parse(place) if isinstance(place, str) else place
    if isinstance(found, Endpoint) and found.kind in SECURE:
        raise ValueError(untouched(found))
