"""The drivers: which of them makes the trips over a connection."""

from __future__ import annotations

from techo._probing.driver import Driver
from techo._probing.in_flight import InFlight, Run
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
    in_flight = InFlight(run, transport.keeps_messages)
    if run.timed_by is not Clock.USER:
        if switch_stamps_on(transport):
            return KernelDriver(transport, in_flight)
        if run.timed_by is Clock.KERNEL:
            where = transport.address or "a connection of the program's own"
            raise ValueError(f"clock kernel: the kernel does not stamp what goes to {where}")
    if transport.pumpable and pump.AVAILABLE:
        return PumpDriver(transport, in_flight)
    return TaskDriver(transport, in_flight)
