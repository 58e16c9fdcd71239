"""The drivers: which of them makes the trips over a connection."""

from __future__ import annotations

from techo._probing.driver import Driver
from techo._probing.in_flight import InFlight, Run
from techo._probing.pump_driver import PumpDriver
from techo._probing.task_driver import TaskDriver
from techo._pump import pump
from techo._transport.transport import Transport


def driver_for(transport: Transport, run: Run) -> Driver:
    """Return what makes trips over `transport`: the pump, where it can."""
    in_flight = InFlight(run, transport.keeps_messages)
    if transport.pumpable and pump.AVAILABLE:
        return PumpDriver(transport, in_flight)
    return TaskDriver(transport, in_flight)
