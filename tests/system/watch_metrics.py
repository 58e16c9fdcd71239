"""Serves the metrics of a watch that never was: its counts grow with the time that passes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import trio

from techo._operate.web import WebServer, header, respond
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._watch.counts import Counts, Snapshot
from techo._watch.events import State
from techo._watch.metrics import SharedExposition
from watches import snapshot


def snapshots() -> Iterator[Snapshot]:
    """Yield one target that is well, and one to which everything happens."""
    passed = int(trio.current_time() * 100) % 10**9
    well = Histogram.of([200_000, 300_000] * 50)
    well.count, well.sum = passed + 100, passed * 250_000
    well.buckets[next(iter(well.buckets))] += passed
    yield snapshot("well", sent=passed + 100, total=Counts(well))
    yield snapshot(
        "ill",
        kind="tls",
        group="web",
        state=State.FLAPPING,
        down=True,
        sent=passed,
        missed=passed,
        total=Counts(
            well,
            Counter(dict.fromkeys(FailureCause, passed)),
            *(passed,) * 4,
            down_seconds=passed / 100,
        ),
        setup=dict.fromkeys(("lookup", "connect", "handshake"), well),
        certificate_end=4e9,
    )


async def main(port: int) -> None:
    """Serve /metrics until the end of this process."""
    shared = SharedExposition(snapshots, "1.2")

    async def app(scope: Mapping[str, Any], _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await respond(send, 200, *await shared(header(scope, b"accept")))

    await WebServer(app).serve("127.0.0.1", port)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
