"""Signals while a command begins: none is lost, and none ends it in the middle."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import trio

from helpers import PATIENCE
from techo._cli.signals import held, release

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_sigmask"), reason="this system cannot let signals wait"
)


@pytest.fixture
def number() -> Iterator[signal.Signals]:
    """A signal whose handler and mask are those of before afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield signal.SIGTERM
    release([signal.SIGTERM])
    signal.signal(signal.SIGTERM, before)


async def test_a_signal_that_comes_too_early_is_heeded(number: signal.Signals) -> None:
    """It waits until there is somebody who heeds it."""
    with held([number]):
        signal.raise_signal(number)
        with trio.open_signal_receiver(number) as signals:
            release([number])
            with trio.fail_after(PATIENCE):
                assert await anext(signals) == number


def test_a_signal_that_comes_too_late_does_nothing(number: signal.Signals) -> None:
    """The handler that comes back in the end lets it pass."""
    with held([number]):
        pass
    signal.raise_signal(number)
    assert signal.getsignal(number) not in {signal.SIG_DFL, signal.SIG_IGN}
