"""The proxy in a thread of its own, for tests that are not trio's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TypedDict, Unpack

import attrs

from techo._faults.values import Fault, FaultEvent
from techo._proxying.proxy import Proxy, open_proxy
from techo._proxying.target import Connect, Target
from techo._server.limits import Limits
from techo._threads.asked import InThread
from techo._threads.run import open_in_thread
from techo.endpoint import Endpoint


class ProxyOptions(TypedDict, total=False):
    """What else a proxy of a test takes, as `open_proxy` does."""

    upstream_faults: Sequence[Fault]
    limits: Limits | None
    seed: int


@attrs.frozen(eq=False, repr=False)
class ThreadProxy(InThread[Proxy]):
    """A `Proxy` in a thread of its own, which any other thread can ask.

    When its block or test is over it can still be asked for its histories and statistics.
    """

    @property
    def upstream_history(self) -> tuple[FaultEvent, ...]:
        """The faults that the target saw, likewise; connections have the same numbers."""
        return self._run.call(lambda: self._service.upstream_history)

    def set_faults(self, *faults: Fault, running: bool = False) -> None:
        """Let clients see these in place of what went wrong, as `Proxy.set_faults`.

        Raises:
            ValueError: one is no fault, or cannot happen where the proxy listens.
        """
        self._run.call(lambda: self._service.set_faults(*faults, running=running))

    def set_upstream_faults(self, *faults: Fault, running: bool = False) -> None:
        """Let the target see these in place of what went wrong, likewise.

        Raises:
            ValueError: one is no fault, or cannot happen to the target.
        """
        self._run.call(lambda: self._service.set_upstream_faults(*faults, running=running))


def place_before(target: Endpoint | str | Connect) -> str:
    """Return where a proxy listens unless it is said: a free port of 127.0.0.1.

    Raises:
        ValueError: the target is no endpoint that a proxy can pass on to.
    """
    return f"{'udp' if Target.of(target).datagrams else 'tcp'}://127.0.0.1:0"


@contextlib.contextmanager
def open_thread_proxy(
    target: Endpoint | str | Connect,
    *places: Endpoint | str,
    faults: Sequence[Fault] = (),
    **options: Unpack[ProxyOptions],
) -> Iterator[ThreadProxy]:
    """Pass on connections to a target in a thread, for the length of a block.

    Yields a `ThreadProxy`, which listens at `places`, or at 127.0.0.1 and a free port (of udp
    if the target has datagrams, and else of tcp). It takes what `open_proxy` takes, but for
    open listeners; a target that is a function is called in the thread. Leaving the block
    closes everything at once, without a drain, and waits until the thread has ended; an error
    of the proxy is raised then, as itself.

    Raises:
        ValueError: a text is no endpoint, or one that can't be passed on, such as tls, or a
            fault cannot happen there.
        OSError: a name is unknown or an address can't be bound; its `filename` is the endpoint.
    """
    opened = open_proxy(target, *(places or [place_before(target)]), faults=faults, **options)
    with open_in_thread(opened, f"techo proxy to {target}") as (proxy, run):
        yield ThreadProxy(proxy, run)
