"""What a trio run has one of: it is made when it is first asked for, with a task of the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

import trio


class Runs(Protocol):
    """What a task of the run serves for as long as that lasts."""

    def run(self) -> Awaitable[object]:
        """Serve until cancelled."""


T = TypeVar("T", bound=Runs)


class OnePerRun(Generic[T]):
    """Keeps one `T` for each trio run, whose `run` is a system task from then on."""

    def __init__(self, make: Callable[[], T], name: str) -> None:
        self._make: Final = make
        self._name: Final = name
        """Of its task."""
        self._made: Final = trio.lowlevel.RunVar[T](name)

    def get(self) -> T:
        """Return that of the present run, which is made if there is none yet."""
        try:
            return self._made.get()
        except LookupError:
            made = self._make()
            self._made.set(made)
            trio.lowlevel.spawn_system_task(made.run, name=self._name)
            return made
