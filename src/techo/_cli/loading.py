"""What load and capacity have in common: options, and the signals that end a measurement."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.options import Option, option
from techo._cli.output import print_error
from techo._cli.readers import NUMBER, SIZE, TIME
from techo._cli.signals import release

if TYPE_CHECKING:
    import trio

_SOON: Final = 0.5
"""Seconds after a signal within which it may end without a word about what it waits for."""

CONNECTIONS: Final = option("-c --connections", NUMBER, "how many at the same time", default=10)
MESSAGE_SIZE: Final = option("-s --size", SIZE, "of each message", default=64)
PIPELINE: Final = option(
    "--pipeline", NUMBER, "messages in flight on each connection, at the most", default=1
)

RECONNECT_EVERY: Final = option(
    "--reconnect-every",
    NUMBER,
    "trips over a connection, which is then closed and replaced at once; with 1, each trip "
    "has a connection of its own, and a handshake over tls",
    shown="never",
)


def reply_timeout(more: str) -> Option:
    """Return the option that says how long to wait, with a sentence about what then happens."""
    return option(
        "-W --timeout",
        TIME,
        f"how long to wait for a reply or a connection. {more}",
        shown="10s; 1s over udp and unixgram",
    )


@attrs.define(eq=False)
class TwoSignals:
    """The signals that end a measurement: the first asks for its end, the second ends it."""

    stopped_by: int = 0
    """The signal that came last; 0 for none."""

    @property
    def exit_code(self) -> int:
        """What the process ends with if there is nothing worse: see `Command.run`."""
        return -signal.SIGINT if self.stopped_by == signal.SIGINT else 0

    @contextlib.asynccontextmanager
    async def heeded(self, stop_signals: Sequence[signal.Signals]) -> AsyncIterator[trio.Event]:
        """Heed signals that are held for the length of a block, which gets what the first sets.

        The second one cancels the block.
        """
        import trio

        from techo._nursery import open_bare_nursery

        stop = trio.Event()
        with trio.open_signal_receiver(*stop_signals) as signals:
            release(stop_signals)
            async with open_bare_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery, stop)
                yield stop
                nursery.cancel_scope.cancel(reason="what was measured is over")

    async def _heed(
        self, signals: AsyncIterator[int], nursery: trio.Nursery, stop: trio.Event
    ) -> None:
        self.stopped_by = await anext(signals)
        stop.set()
        nursery.start_soon(_explain)
        self.stopped_by = await anext(signals)
        nursery.cancel_scope.cancel(reason="a second signal")


async def _explain() -> None:
    import trio

    await trio.sleep(_SOON)
    print_error("techo: waiting for trips in flight; again to stop now")
