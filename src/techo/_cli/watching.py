"""Watching: runs a watch for a command, with signals, an end, and a table on a terminal."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Final, cast

import attrs

from techo._cli.output import Forgiving, is_dumb
from techo._cli.signals import release

if TYPE_CHECKING:
    import trio

    from techo._watch.events import Change
    from techo._watch.watch import Watch

_REFRESH: Final = 1.0
"""Seconds between two tables."""

_MINUTE: Final = 60.0

_LATE: Final = 12.0
"""Seconds that commands for changes have to end when the watch is over; then they are ended."""


@attrs.define(eq=False)
class Watching:
    """A watch that runs until its probes are over, its time is, or a signal comes."""

    watch: Watch
    changed: Callable[[Change], None]
    """Shows a change."""
    command: Sequence[str] = ()
    """What is run for each change."""
    seconds: float | None = None
    """After which it ends; None if it does not."""
    minutely: Callable[[], None] | None = None
    """Called once a minute."""
    reload: Callable[[], Awaitable[None]] | None = None
    """Called at SIGHUP, if that does not end it."""
    stop: int = 0
    """The signal that ended it."""
    _scope: trio.CancelScope = attrs.field(init=False)
    _commands: trio.Nursery = attrs.field(init=False)

    async def run(
        self,
        heeded: Sequence[signal.Signals],
        beside: Callable[
            [trio.Nursery], contextlib.AbstractAsyncContextManager[None]
        ] = lambda _nursery: contextlib.nullcontext(),
    ) -> None:
        """Run it within the block `beside`, whose tasks are in the nursery that it is given."""
        import trio

        from techo._cli.on_change import OnChange
        from techo._nursery import open_bare_nursery

        self._scope = trio.CancelScope()
        with trio.open_signal_receiver(*heeded) as signals:
            async with open_bare_nursery() as nursery:
                async with open_bare_nursery() as self._commands:
                    release(heeded)
                    nursery.start_soon(self._heed, signals, nursery)
                    on_change = OnChange(self.command, self._commands)
                    with self._scope:
                        async with beside(nursery), self.watch as changes:
                            self._keep_time(nursery)
                            with _live(self.watch) as show:
                                nursery.start_soon(_again_and_again, _REFRESH, show)
                                async for change in changes:
                                    self.changed(change)
                                    if self.command:
                                        on_change.put(change)
                    self._commands.cancel_scope.deadline = trio.current_time() + _LATE
                nursery.cancel_scope.cancel(reason="it is over")

    def _keep_time(self, nursery: trio.Nursery) -> None:
        import trio

        if self.seconds is not None:
            self._scope.deadline = trio.current_time() + self.seconds
        if self.minutely is not None:
            nursery.start_soon(_again_and_again, _MINUTE, self.minutely)

    async def _heed(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """Reload at SIGHUP, if that is no hang-up; end at other signals, and then at once."""
        hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
        async for number in signals:
            if number == hang_up and self.reload is not None:
                nursery.start_soon(self.reload)
            elif self.stop:
                self._commands.cancel_scope.cancel(reason="a second signal")
            else:
                self.stop = number
                self._scope.cancel(reason="a signal")


async def _again_and_again(seconds: float, do: Callable[[], None]) -> None:
    import trio

    while True:
        await trio.sleep(seconds)
        do()


@contextlib.contextmanager
def _live(watch: Watch) -> Iterator[Callable[[], None]]:
    """Show a table on a terminal for a block; return what shows it anew."""
    # Not what rich's console says: FORCE_COLOR makes it take everything for a terminal.
    if not sys.stderr.isatty() or not sys.stdout.isatty() or is_dumb():
        yield lambda: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from techo._watch.text import counts_of, table_of

    console = Console(file=cast("IO[str]", Forgiving()), markup=False, highlight=False)

    def table() -> Text:
        found = watch.snapshot()
        most = max(1, console.height - 6)
        lines = table_of(found, time.time(), console.width, most)
        return Text("\n".join([*lines, counts_of(found)]), no_wrap=True, overflow="crop")

    # Without a thread, whose turns would be part of what is measured.
    with Live(table(), console=console, auto_refresh=False, transient=True) as live:
        console.show_cursor()  # or whatever ends us at once would leave it hidden
        yield lambda: live.update(table(), refresh=True)
