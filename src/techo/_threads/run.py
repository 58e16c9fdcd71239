"""A trio run in a thread of its own: how programs that are not async have a service."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.define(eq=False)
class ThreadRun:
    """A trio run in another thread, which does calls of ours between its tasks' turns."""

    _token: trio.lowlevel.TrioToken
    _thread: int

    def call(self, function: Callable[[], T]) -> T:
        """Call a plain function in the run's thread, and return what it returns.

        Any thread may ask, whatever runs in it. When the run is over nothing else can touch
        what was its own, and the function is called here.
        """
        if threading.get_ident() == self._thread:
            return function()
        answer = Future[T]()
        try:
            self._token.run_sync_soon(_answer, answer, function)
        except trio.RunFinishedError:
            return function()
        return answer.result()

    def cancel(self, scope: trio.CancelScope) -> None:
        """Cancel a scope of the run, without waiting for that.

        Raises:
            trio.RunFinishedError: the run is over.
        """
        self._token.run_sync_soon(scope.cancel)


def _answer(answer: Future[T], function: Callable[[], T]) -> None:
    try:
        answer.set_result(function())
    except BaseException as error:  # noqa: BLE001, ASYNC103  -- raised where it is awaited
        answer.set_exception(error)


@contextlib.contextmanager
def open_in_thread(
    manager: AbstractAsyncContextManager[T], name: str
) -> Iterator[tuple[T, ThreadRun]]:
    """Enter an async context manager in a trio run in a thread, for the length of a block.

    Yields what it yields, and the run. What it raises when it is entered is raised at once.
    Leaving the block cancels it and waits until the thread has ended; an error that it raised
    meanwhile is raised then, as itself. A KeyboardInterrupt of the caller ends it likewise.
    """
    run = _Run(manager)
    # Who interrupts the waiting for its end, too, wants the program to end.
    thread = threading.Thread(target=run.run, name=name, daemon=True)
    try:
        thread.start()
        begun = run.begun.result()
        yield run.opened.result(), begun
    finally:
        if thread.ident is not None:
            run.cancel()
            thread.join()
            run.raise_error()


@attrs.define(eq=False)
class _Run(Generic[T]):
    """What the two threads share: its steps, each with its result or its error."""

    _manager: AbstractAsyncContextManager[T]
    begun: Future[ThreadRun] = attrs.field(factory=Future)
    opened: Future[T] = attrs.field(factory=Future)
    _ended: Future[None] = attrs.field(factory=Future)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def run(self) -> None:
        """Run until it is cancelled; an error belongs to the step that it came in."""
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001, ASYNC103  -- raised in the other thread
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                (error,) = error.exceptions
            steps: tuple[Future[Any], ...] = (self.begun, self.opened, self._ended)
            next(each for each in steps if not each.done()).set_exception(error)

    async def _main(self) -> None:
        token = trio.lowlevel.current_trio_token()
        self.begun.set_result(ThreadRun(token, threading.get_ident()))
        with self._scope:
            async with self._manager as value:
                self.opened.set_result(value)
                await trio.sleep_forever()

    def cancel(self) -> None:
        """Let it end at once, from another thread."""
        if self.begun.exception() is None:  # this waits until it has begun or failed to
            with contextlib.suppress(trio.RunFinishedError):  # it has ended by itself
                self.begun.result().cancel(self._scope)

    def raise_error(self) -> None:
        """Raise what failed after it was opened; nobody has seen that yet."""
        if self._ended.done():
            self._ended.result()
