"""Trips in flight, without I/O: when a run is done."""

from __future__ import annotations

import itertools

from techo._load.tally import Tally
from techo._probing.in_flight import InFlight, Run
from techo._probing.payloads import Payloads
from techo._probing.schedule import Schedule


def test_a_run_is_done_when_its_last_reply_comes_over_what_cannot_send_any_more() -> None:
    """A server that has gone may have replied before; nobody waits for more than that."""
    tally = Tally(lossy=False)
    schedule = Schedule(begin=0.0, warm_up=0.0, seconds=10.0, trips=None, rate=100.0)
    run = tally.run = Run(
        schedule=schedule,
        payloads=Payloads(64, least=64),
        sizes=itertools.repeat(64),
        pipeline=1,
        timeout=10.0,
        sink=tally,
        take=schedule.take,
        clock=lambda: 1.0,
    )
    in_flight = InFlight(run, keeps_messages=False)
    sent = in_flight.next(1.0)
    assert run.in_flight == 1
    run.stop_sending()
    assert not run.done.is_set()
    in_flight.traffic.send_pending = True
    assert in_flight.answer(sent) == b""
    assert (tally.service.count, run.in_flight) == (1, 0)
    assert run.done.is_set()
