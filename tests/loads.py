"""What the tests of load share: what holds of every report, and peers written by hand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio

import techo
from helpers import PATIENCE, open_descriptors
from techo.testing import Fault, MemoryStream


def check(report: techo.LoadReport) -> techo.LoadReport:
    """Assert what holds at the end of every load, and give the report back."""
    assert report.in_flight == 0
    assert report.service.count == report.received
    assert report.received_bytes == report.size * report.received
    assert report.lost <= sum(report.failures.values()) == report.failed
    assert (report.response is None) == (report.send_lag is None) == (report.rate is None)
    if report.response is not None and report.send_lag is not None:
        assert report.response.count == report.send_lag.count == report.received
        # Each waited for its turn, then for its reply; figures are cut to whole nanoseconds.
        sum_of_both = report.service.sum + report.send_lag.sum
        assert abs(report.response.sum - sum_of_both) <= 2 * report.received
    return report


async def until_descriptors(count: int) -> None:
    """Wait until so many descriptors are open: a server closes its own a little later."""
    with trio.fail_after(PATIENCE):
        while await open_descriptors() != count:  # noqa: ASYNC110  -- closing is no event
            await trio.sleep(0.001)  # a server closes its own without an event for us


def causes(report: techo.LoadReport) -> dict[str, int]:
    """The errors, by the cause's word."""
    return {str(cause): count for cause, count in report.failures.items()}


def connecting(
    nursery: trio.Nursery, peer: Callable[[MemoryStream], Awaitable[None]]
) -> Callable[[], Awaitable[MemoryStream]]:
    """Give what connects to a peer written by hand, which runs in `nursery`."""

    async def meet(stream: MemoryStream) -> None:
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):  # the client has left
                await peer(stream)

    async def connect() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        ours, theirs = MemoryStream.pair()
        nursery.start_soon(meet, theirs)
        return ours

    return connect


@contextlib.asynccontextmanager
async def faulty(
    address: techo.Endpoint | str, *faults: Fault, **options: Any
) -> AsyncIterator[techo.EchoService]:
    """A server with faults, for a block that does not last for ever."""
    options = {"reply": techo.raw, "limits": techo.Limits(drain_timeout=0.01), **options}
    async with techo.open_server(address, faults=faults, **options) as server:
        with trio.fail_after(PATIENCE):
            yield server
