"""Misbehaving: a connection's life with the faults that were planned for it."""

from __future__ import annotations

from typing import Final

import trio

from techo._faults.plan import Plan
from techo._faults.stream import FaultEndedError, FaultyStream
from techo._faults.values import NeverHandshake, Refuse, SlowAccept
from techo._server.connection import Connection, Outcome
from techo._server.conversation import converse
from techo.reply import Reply

_FLUSH: Final = 1.0
"""Seconds for what was held back, when nothing comes after it."""


async def hesitate(connection: Connection, plan: Plan) -> Outcome | None:
    """Do what happens before anything else, a TLS handshake included; say if it is the end."""
    if (refuse := plan.first(Refuse)) is not None:
        plan.note(refuse)
        return Outcome.REFUSED
    with connection.watch(resumable=True) as scope:
        await trio.lowlevel.checkpoint()
        if (slow := plan.first(SlowAccept)) is not None:
            plan.note(slow)
            await trio.sleep(slow.seconds)
        if not connection.greeted and (never := plan.first(NeverHandshake)) is not None:
            plan.note(never)
            await trio.sleep_forever()
    return connection.verdict() if scope.cancelled_caught else None


async def misbehave(
    stream: trio.abc.Stream,
    reply: Reply,
    connection: Connection,
    receive_size: int,
    plan: Plan,
) -> Outcome:
    """Do what `conversation.converse` does, gone wrong as planned.

    The limits stay in force: what never ends by itself is ended by them.

    Raises:
        Exception: as `converse`.
    """
    faulty = FaultyStream(stream, plan, connection)
    try:
        with connection.watch(resumable=True) as scope:
            await faulty.begin()
        if scope.cancelled_caught:
            return connection.verdict()
        outcome = await converse(faulty, reply, connection, receive_size)
        if not connection.send_pending:
            with trio.move_on_after(_FLUSH):
                await faulty.flush()
    except FaultEndedError:
        connection.send_pending = False
        outcome = Outcome.FAULTED
    with connection.watch():
        await faulty.finish()
    return outcome
