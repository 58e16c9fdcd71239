"""Watching: runs a watch for a command, with signals, an end, and a table on a terminal."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Final, NoReturn, cast

import attrs

from techo._cli.output import Forgiving, is_dumb
from techo._cli.signals import release

if TYPE_CHECKING:
    import trio

    from techo._watch.counts import Snapshot
    from techo._watch.events import Change
    from techo._watch.watch import Watch

_REFRESH: Final = 1.0
"""Seconds between two tables."""

_MINUTE: Final = 60.0

_MANY: Final = 100
"""Targets which are so many that to look at them again and again takes long."""

_LONGEST_START: Final = 60.0
"""Seconds after which targets that are slow to answer are waited for no more."""

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
    minutely: Callable[[], Awaitable[None]] | None = None
    """Called once a minute."""
    reload: Callable[[], Awaitable[None]] | None = None
    """Called at SIGHUP, if that does not end it."""
    live: bool = True
    """Whether there is a table of all targets on a terminal."""
    stop: int = 0
    """The signal that ended it."""
    _scope: trio.CancelScope = attrs.field(init=False)
    _commands: trio.Nursery = attrs.field(init=False)
    reloaded: trio.Event = attrs.field(init=False)
    """Set when there are other targets."""
    _reloading: trio.Lock = attrs.field(init=False)

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

        self._scope, self._reloading = trio.CancelScope(), trio.Lock()
        self.reloaded = trio.Event()
        with trio.open_signal_receiver(*heeded) as signals:
            async with open_bare_nursery() as nursery:
                async with open_bare_nursery() as self._commands:
                    release(heeded)
                    nursery.start_soon(self._heed, signals, nursery)
                    on_change = OnChange(self.command, self._commands)
                    with self._scope:
                        async with beside(nursery), self.watch as changes:
                            self._keep_time(nursery)
                            with _live(self.watch, wanted=self.live) as show:
                                nursery.start_soon(_again_and_again, _REFRESH, show)
                                async for change in changes:
                                    self.changed(change)
                                    if self.command:
                                        on_change.put(change)
                    self._commands.cancel_scope.deadline = trio.current_time() + _LATE
                on_change.report()
                nursery.cancel_scope.cancel(reason="it is over")

    def _keep_time(self, nursery: trio.Nursery) -> None:
        import trio

        if self.seconds is not None:
            self._scope.deadline = trio.current_time() + self.seconds
        nursery.start_soon(self.settle)
        if self.minutely is not None:
            nursery.start_soon(_again_and_again, _MINUTE, self.minutely)

    async def _heed(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """Reload at SIGHUP, if that is no hang-up; end at other signals, and then at once."""
        hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
        async for number in signals:
            if number == hang_up and self.reload is not None:
                nursery.start_soon(self._reload, self.reload)
            elif self.stop:
                self._commands.cancel_scope.cancel(reason="a second signal")
            else:
                self.stop = number
                self._scope.cancel(reason="a signal")

    async def _reload(self, reload: Callable[[], Awaitable[None]]) -> None:
        async with self._reloading:  # or an older file could be read last
            await reload()
        self.reloaded.set()

    async def settle(self) -> NoReturn:
        """Have the garbage collector overlook targets that are there, until there are others.

        In looking at all of a thousand it holds up the loop for a tenth of a second, again and
        again as other things come and go.
        """
        import trio

        try:
            while True:
                targets = self.watch.targets.values()
                starts = [each.interval + each.timeout for each in targets]
                await trio.sleep(min(_LONGEST_START, max(starts, default=0.0)))
                if len(targets) >= _MANY:
                    overlook()
                await self.reloaded.wait()
                self.reloaded = trio.Event()
                gc.unfreeze()
        finally:
            gc.unfreeze()


def overlook() -> None:
    """Keep the garbage collector from looking again at what is there now."""
    gc.collect()
    gc.freeze()


async def _again_and_again(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    import trio

    while True:
        await trio.sleep(seconds)
        await do()


@contextlib.contextmanager
def _live(watch: Watch, *, wanted: bool) -> Iterator[Callable[[], Awaitable[None]]]:
    """Show a table on a terminal for a block, if it is wanted; return what shows it anew."""
    import trio

    # Not what rich's console says: FORCE_COLOR makes it take everything for a terminal.
    on_a_terminal = sys.stderr.isatty() and sys.stdout.isatty() and not is_dumb()
    if not wanted or not on_a_terminal:
        yield trio.lowlevel.checkpoint
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from techo._watch.text import counts_of, table_of
    from techo._watch.turns import in_turns

    console = Console(file=cast("IO[str]", Forgiving()), markup=False, highlight=False)

    def table(found: Sequence[Snapshot]) -> Text:
        most = max(1, console.height - 6)
        lines = table_of(found, time.time(), console.width, most)
        return Text("\n".join([*lines, counts_of(found)]), no_wrap=True, overflow="crop")

    # Without a thread, whose turns would be part of what is measured.
    with Live(
        table(watch.snapshot()), console=console, auto_refresh=False, transient=True
    ) as live:
        console.show_cursor()  # or whatever ends us at once would leave it hidden

        async def show() -> None:
            found = [each async for each in in_turns(watch.snapshots())]
            live.update(table(found), refresh=True)

        yield show
