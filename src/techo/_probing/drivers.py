"""The drivers: which of them makes the trips over a connection."""

from __future__ import annotations

from techo._probing.driver import Driver
from techo._probing.in_flight import FewInFlight, InFlight, Run
from techo._probing.kernel_driver import KernelDriver, switch_stamps_on
from techo._probing.pump_driver import PumpDriver
from techo._probing.task_driver import TaskDriver
from techo._probing.trip import Clock
from techo._pump import pump
from techo._transport.transport import Transport


def driver_for(transport: Transport, run: Run) -> Driver:
    """Return what makes trips over `transport`: where the kernel need not time, the pump.

    Raises:
        ValueError: the kernel's clock was asked for, and there is none for this connection.
    """
    if run.trips_each is None:
        return _driver(transport, InFlight(run, transport.keeps_messages))
    few = FewInFlight(run, transport.keeps_messages)
    driver = _driver(transport, few)
    few.all_made = driver.finish
    return driver


def _driver(transport: Transport, in_flight: InFlight) -> Driver:
    run = in_flight.run
    if run.timed_by is not Clock.USER:
        if switch_stamps_on(transport, run.stamped):
            return KernelDriver(transport, in_flight)
        if run.timed_by is Clock.KERNEL:
            where = transport.address or "a connection of the program's own"
            raise ValueError(f"clock kernel: the kernel does not stamp what goes to {where}")
    if transport.pumpable and pump.AVAILABLE:
        return PumpDriver(transport, in_flight)
    return TaskDriver(transport, in_flight)
