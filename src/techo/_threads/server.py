"""The echo service in a thread of its own, for tests that are not trio's."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from typing import TypedDict, Unpack

import attrs

from techo._echo_service import EchoService, open_server
from techo._faults.values import Fault
from techo._server.hook import ServiceHook
from techo._server.limits import Limits
from techo._threads.asked import InThread
from techo._threads.run import open_in_thread
from techo.endpoint import Endpoint
from techo.reply import Reply


class ServerOptions(TypedDict, total=False):
    """What else a server of a test takes, as `techo.open_server` does."""

    reply: Reply
    limits: Limits | None
    tls: ssl.SSLContext | None
    unix_mode: int | None
    seed: int
    hook: ServiceHook | None


@attrs.frozen(eq=False, repr=False)
class ThreadServer(InThread[EchoService]):
    """An `EchoService` in a thread of its own, which any other thread can ask.

    When its block or test is over it can still be asked for its history and statistics.
    """

    def set_faults(self, *faults: Fault, running: bool = False) -> None:
        """Let these go wrong in place of what did, as `EchoService.set_faults`.

        Raises:
            ValueError: one is no fault, or cannot happen where the server listens.
        """
        self._run.call(lambda: self._service.set_faults(*faults, running=running))


@contextlib.contextmanager
def open_thread_server(
    *places: Endpoint | str,
    faults: Sequence[Fault] = (),
    **options: Unpack[ServerOptions],
) -> Iterator[ThreadServer]:
    """Serve endpoints in a thread with a trio run of its own, for the length of a block.

    Yields a `ThreadServer`, which is listening. The program round it need not be async, or
    may be asyncio's. It takes what `techo.open_server` takes, but for open listeners. Leaving
    the block closes everything at once, without a drain, and waits until the thread has
    ended; an error of the service is raised then, as itself.

    Raises:
        ValueError: a text is no endpoint, or a fault cannot happen there.
        OSError: an address can't be bound; its `filename` is the endpoint.
    """
    opened = open_server(*places, faults=faults, **options)
    with open_in_thread(opened, f"techo {' '.join(map(str, places))}") as (service, run):
        yield ThreadServer(service, run)
