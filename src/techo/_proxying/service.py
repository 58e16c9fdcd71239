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
from techo._proxying.target import Target
from techo._server.hook import ServiceHook
from techo._server.limits import Limits
from techo._server.registry import Statistics
from techo._server.service import Service
from techo.endpoint import Endpoint
from techo.reply import raw


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
        return cls(interceptor, Service(raw, limits, None, unix_mode, hook, interceptor))

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What `serve` is listening on now: one for each socket, with the real port."""
        return tuple(self.service.endpoints)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        return self.service.statistics()

    async def serve(
        self,
        *places: Endpoint | str | trio.abc.Listener[Any],
        task_status: trio.TaskStatus[tuple[Endpoint, ...]],
    ) -> None:
        """Pass on what comes to `places` until drained or cancelled; see `Service.serve`."""
        target = self.interceptor.target.place
        if not isinstance(target, Endpoint) or not self.interceptor.target.datagrams:
            await self.service.serve(*places, task_status=task_status)
            return
        interceptor = self.interceptor
        planners = interceptor.planner, interceptor.upstream_planner
        limits, registry = interceptor.limits, self.service.registry
        async with open_flows(target, limits, registry, *planners) as flows:
            interceptor.flows = flows
            await self.service.serve(*places, task_status=task_status)

    def leave(self) -> None:
        """Go on as before: a connection of a proxy does not end with a reply."""

    async def drain(self) -> None:
        """Stop accepting, end every connection once it is quiet, and return."""
        await self.service.drain()
