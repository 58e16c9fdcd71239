"""The opening: what is planned for one side before anything else happens to it."""

from __future__ import annotations

import trio

from techo._faults.plan import Plan
from techo._faults.transport import accept_slowly
from techo._faults.values import Refuse
from techo._server.connection import Connection, Outcome


async def begin(
    plan: Plan, connection: Connection, patience: trio.CancelScope | None = None
) -> Outcome | None:
    """Do what is planned to come first; return the outcome if that is the end.

    Cancelling `patience` ends the wait, because something else is planned.
    """
    if (refuse := plan.first(Refuse)) is not None:
        plan.note(refuse)
        return Outcome.REFUSED
    with connection.watch(resumable=True) as scope, patience or trio.CancelScope():
        await accept_slowly(plan)
    return connection.timeout_outcome() if scope.cancelled_caught else None
