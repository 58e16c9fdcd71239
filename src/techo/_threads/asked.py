"""What other threads ask of a service that runs in a thread of its own."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import attrs

from techo._faults.values import FaultEvent
from techo._one_endpoint import OneEndpoint
from techo._server.registry import Statistics
from techo._threads.run import ThreadRun
from techo.endpoint import Endpoint


class Service(Protocol):
    """What servers and proxies have in common."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What it listens on now."""
        ...

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """What went wrong."""
        ...

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        ...


S = TypeVar("S", bound=Service)


@attrs.frozen(eq=False, repr=False)
class InThread(OneEndpoint, Generic[S]):
    """A service in a thread of its own, which any other thread can ask.

    When its block or test is over it can still be asked for its history and statistics.
    """

    _service: S
    """It belongs to its own thread: nothing else may call it."""
    _run: ThreadRun

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._run.call(lambda: repr(self._service))})"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What it listens on now: one for each socket, with the real port."""
        return self._run.call(lambda: self._service.endpoints)

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """The faults that clients saw, the last 100,000 of them, the latest last."""
        return self._run.call(lambda: self._service.history)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        return self._run.call(self._service.statistics)
