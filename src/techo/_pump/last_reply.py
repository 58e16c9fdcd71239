"""The last reply: a pumped socket is half-closed together with what it answers next."""

from __future__ import annotations

from collections.abc import Callable

from techo._kernel.ends import join_with_end
from techo._pump.pump import Pump
from techo._pump.socket import PumpedSocket


def end_with_reply(socket: PumpedSocket, note: Callable[[], None]) -> None:
    """Half-close a socket behind its next reply, and then call `note`; for a run's own tasks.

    A reply that the socket does not take whole is not the last: another one will be.
    """
    reply = bytes if socket.reply is None else socket.reply

    def answer_last(chunk: bytes) -> bytes:
        answer = reply(chunk)
        # Over TLS one reply may follow another at once; the pump puts it behind the rest.
        if not answer or socket.unsent is not None:
            return answer
        pump, sock = Pump.of_this_run(), socket.sock
        if sock is not None:
            join_with_end(sock)
        pump.send(socket, answer)
        if not socket.over and socket.unsent is None:
            pump.half_close(socket)
            note()
        elif sock is not None:
            join_with_end(sock, join=False)
        return b""

    socket.reply = answer_last
