"""The talk command: the tutorial's client, on a terminal or in a pipe."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.errors import cannot_reach, refuse
from techo._cli.line_editing import LineEditor, line_editor
from techo._cli.options import CLIENT, Command, option
from techo._cli.output import print_bytes, print_error
from techo._cli.packets import PACKETS, socket_options
from techo._cli.readers import time_form
from techo._cli.signals import end_by, stopping
from techo._cli.standard_input import StandardInput
from techo._cli.tls import client_context
from techo._probing.text import mptcp_in_words
from techo._quantities import write_seconds
from techo._validation import SECONDS_ABOVE_0
from techo.endpoint import Endpoint

if TYPE_CHECKING:
    import ssl

    import trio

    from techo._client.comparison import Comparison
    from techo._transport.transport import Transport

_CONNECT_TIMEOUT: Final = 10.0
"""Seconds for connecting with TLS, as servers allow by default: a peer that does not speak it
may wait for us to send something else, for ever."""

_TIMEOUT: Final = 1.0
"""Seconds after which a datagram counts as lost: more than a round trip takes on earth, and
what ping waits between two."""

_LINGER: Final = 1.0
"""Seconds for a server that is no echo to send more, where nothing marks the end of it."""

_DESCRIPTION = """\
On a terminal: a prompt, a line in, its reply out; an empty line or Ctrl-D ends it. Lines can be
edited, and the arrow keys bring earlier ones back. What is typed while a reply is awaited waits
for the next prompt. In a pipe: everything as it comes, until the
input ends and all of it has come back.

Over udp, unixgram and unixpacket a line is a message. A reply that is missing after the time of
-W is reported, and the talk goes on."""

_EXAMPLES: Final = (
    ("printf 'hello\\n' | techo talk localhost", "one line, and its reply"),
    ("techo talk -W 5s udp://echo.example:7", "a line in a datagram, 5 seconds for its reply"),
    ("techo talk --tls-ca ca.pem tls://echo.example:7", "over TLS"),
)

_EXITS: Final = (
    ("0", "all came back"),
    ("1", "the server ended it early, or a reply is missing"),
    ("2", "wrong usage, a line too long for a message, or no connection"),
)


def talk(options: argparse.Namespace) -> int:
    """Talk until the input ends and every reply was printed; return the exit code."""
    import trio

    with line_editor() as editor:
        code = trio.run(_talk, options, editor)
    return end_by(-code) if code < 0 else code


async def _talk(options: argparse.Namespace, editor: LineEditor | None) -> int:
    """Talk; return the exit code, or minus the number of the signal that ended it."""
    import trio

    from techo._nursery import open_bare_nursery

    if editor is None:  # a signal just ends us, as it ends any program
        return await _talk_to_the_end(options, None)
    caught: list[int] = []

    async def heed(
        scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        # Not where it is ignored, as without job control.
        halt = [signal.SIGTSTP] * (signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL)
        with trio.open_signal_receiver(*stopping(), *halt) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGTSTP:
                    editor.suspend()
                    continue
                caught.append(number)
                scope.cancel(reason="a signal")

    code = 0
    async with open_bare_nursery() as nursery:
        await nursery.start(heed, nursery.cancel_scope)
        code = await _talk_to_the_end(options, editor)
        nursery.cancel_scope.cancel(reason="the talk is over")
    if not caught:
        return code
    _leave_prompt(editor)
    return -caught[0]


def _leave_prompt(editor: LineEditor | None) -> None:
    """Begin a new line, if a prompt has begun one."""
    if editor is not None and editor.asking:
        editor.asking = False
        print_error("")


async def _talk_to_the_end(options: argparse.Namespace, editor: LineEditor | None) -> int:
    from techo._client.comparison import Comparison

    endpoint: Endpoint = options.endpoint
    try:
        transport = await _connect(endpoint, options)
    except OSError as error:  # first, because a bad certificate is a ValueError as well
        return cannot_reach("cannot connect to", endpoint, error)
    except ValueError as error:
        return refuse(str(error))
    async with transport:
        if transport.connectionless:
            return await _talk_in_datagrams(transport, endpoint, options.timeout, editor)
        source = StandardInput(transport.largest, editor)
        talker = _Talker(transport, source, Comparison(), options.timeout or math.inf)
        await talker.run()
        _report_paths(transport)
    if talker.refusal is not None:
        if source.prompting:
            print_error("")
        _leave_prompt(editor)
        return cannot_reach("cannot talk to", endpoint, talker.refusal)
    if talker.ended_early:
        if source.prompting:
            print_error("")
        _leave_prompt(editor)
        print_error(f"techo: {endpoint} {talker.ended_early}")
    return talker.source.failure or (1 if talker.ended_early else 0)


async def _connect(endpoint: Endpoint, options: argparse.Namespace) -> Transport:
    import trio

    from techo._transport.connect import Dial, Step, connect

    tls, sockets = client_context(options), socket_options(options)
    if tls is None:
        return (await connect(endpoint, options=sockets)).transport
    dial = Dial(endpoint, tls, options.tls_server_name, sockets)
    with trio.move_on_after(_CONNECT_TIMEOUT):
        return (await dial).transport
    if dial.step is Step.LOOKUP:
        reason = f"no look-up within {_CONNECT_TIMEOUT:g} s"
        raise socket.gaierror(socket.EAI_AGAIN, reason)
    raise TimeoutError(f"no TLS connection within {_CONNECT_TIMEOUT:g} s")


async def _talk_in_datagrams(
    transport: Transport,
    endpoint: Endpoint,
    timeout: float | None,  # noqa: ASYNC109  -- the option's
    editor: LineEditor | None,
) -> int:
    """Send each line as a datagram and print the reply to it before the next."""
    import trio

    from techo._client.client import EchoClient

    client, source = EchoClient(transport), StandardInput(transport.largest, editor)
    seconds = timeout or _TIMEOUT
    answered = unanswered = 0
    while line := await source.read():
        try:
            with trio.move_on_after(seconds) as scope:
                trip = await client.round_trip(line)
        except OSError as error:
            code = cannot_reach("cannot talk to", endpoint, error)
            return 1 if answered else code
        if scope.cancelled_caught:
            unanswered += 1
            _report_missing(len(line), seconds)
        else:
            answered += 1
            print_bytes(trip.reply + b"\n" if source.terminal else trip.reply)
    return source.failure or (1 if unanswered else 0)


def _report_paths(transport: Transport) -> None:
    """Report over what the talk went, if it was to be MPTCP; in a pipe only if it was not."""
    from techo._probing.multipath import Multipath

    multipath = Multipath()
    multipath.opened(transport)
    paths = multipath.so_far()
    if paths is not None and (paths.plain or sys.stderr.isatty()):
        print_error(f"techo: {mptcp_in_words(paths)}")


def _report_missing(size: int, seconds: float) -> None:
    print_error(f"techo: no echo of {size} bytes within {write_seconds(seconds)}")


@attrs.define(eq=False)
class _Talker:
    """One conversation: standard input to the server, its replies to standard output."""

    transport: Transport
    source: StandardInput
    _comparison: Comparison | None
    """None once the server has proved to be no echo: then replies are just printed."""
    timeout: float
    """How long to wait for what comes next, once it should."""
    ended_early: str = ""
    """Once it is over: how the server has ended it and what is missing, or nothing."""
    refusal: ssl.SSLError | None = None
    """The server's alert, if one came and nothing else: over TLS 1.3 that is how it refuses a
    client whose handshake is done."""
    _failure: str = ""
    """What TLS has failed with, in words."""
    _finished: bool = False
    _in_line: bool = False
    """Whether the cursor of a terminal stands behind a part of a reply."""
    _answered: trio.Event = attrs.field(init=False)
    _receiving: trio.CancelScope = attrs.field(init=False)
    _something_came: bool = False

    async def run(self) -> None:
        import trio

        from techo._nursery import open_bare_nursery

        self._receiving, self._answered = trio.CancelScope(), trio.Event()
        self._answered.set()  # no reply is pending yet
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._send_input, nursery.cancel_scope)
            with self._receiving:
                await self._print_replies()
            nursery.cancel_scope.cancel(reason="the server has closed")
        self._end_line()
        if not self._finished:
            self.ended_early = "ended the connection before the input ended"
        elif self._comparison is not None and not self._comparison.complete:
            late = f"has sent nothing for {write_seconds(self.timeout)}"
            ended = late if self._receiving.cancelled_caught else "ended the connection"
            self.ended_early = f"{ended} with {self._comparison.missing} bytes missing"
        if self.ended_early and self._failure:
            self.ended_early += f": {self._failure}"

    async def _send_input(self, conversation: trio.CancelScope) -> None:
        import trio

        while chunk := await self.source.read():
            self._answered = trio.Event()
            if self._comparison is not None:
                self._comparison.expect(chunk)
            # If the server is gone, the receiving side notices how far it came.
            with contextlib.suppress(trio.BrokenResourceError):
                await self.transport.send(chunk)
            if self.source.terminal:
                with trio.move_on_after(self.timeout) as scope:
                    await self._answered.wait()
                if scope.cancelled_caught:
                    self._end_line()
                    _report_missing(len(chunk), self.timeout)
        self._finished = True
        self._note_progress()
        if self.transport.half_closeable:
            with contextlib.suppress(trio.BrokenResourceError):
                await self.transport.send_eof()
            return
        # TLS has no half-close: to end our side would end the replies, too.
        await self._answered.wait()
        if self._comparison is None:
            await trio.sleep(_LINGER)
        conversation.cancel(reason="everything has come back")

    async def _print_replies(self) -> None:
        import ssl

        import trio

        from techo._probing.causes import words_of
        from techo._tls.alerts import received

        try:
            while chunk := await self.transport.receive():
                self._something_came = True
                self._note_progress()
                answered = self._answers(chunk)
                self._print(chunk, answered=answered)
                if answered:
                    self._answered.set()
        except trio.BrokenResourceError as error:
            # What is missing shows a broken connection, as it shows an early end.
            below = error.__cause__
            if not isinstance(below, ssl.SSLError) or isinstance(below, ssl.SSLEOFError):
                return
            self._failure = words_of(error)
            if received(below) is not None and not self._something_came:
                self.refusal = below

    def _print(self, chunk: bytes | bytearray, *, answered: bool) -> None:
        """Print what has come; on a terminal, a reply that is complete is a line."""
        editor = self.source.editor
        if editor is not None and editor.asking:  # it is late
            with editor.aside():
                print_bytes(chunk + b"\n")
            return
        print_bytes(chunk + b"\n" * (answered and self.source.terminal))
        self._in_line = editor is not None and not answered

    def _end_line(self) -> None:
        """Begin a new line, if a part of a reply has begun one."""
        if self._in_line:
            self._in_line = False
            print_bytes(b"\n")

    def _note_progress(self) -> None:
        """From now on the rest has its time to come, once everything was sent."""
        import trio

        if self._finished:
            self._receiving.deadline = trio.current_time() + self.timeout

    def _answers(self, chunk: bytes | bytearray) -> bool:
        """Return whether everything sent is answered with this chunk."""
        from techo._client.comparison import EchoMismatch

        if self._comparison is None:
            return True
        try:
            self._comparison.feed(chunk)
        except EchoMismatch:
            self._comparison = None
            return True
        self._comparison.forget()
        return self._comparison.complete


_OPTIONS: Final = (
    *CLIENT,
    PACKETS,
    option(
        "-W --timeout",
        time_form(SECONDS_ABOVE_0.or_off(math.inf)),
        "how long to wait for a reply",
        shown="1s over udp and unixgram, else off",
    ),
)

COMMAND: Final = Command(
    "talk",
    "talk [OPTION]... [ENDPOINT]",
    _DESCRIPTION,
    _OPTIONS,
    talk,
    variables="TECHO_ENDPOINT=8009 or TECHO_TLS_CA=ca.pem",
    examples=_EXAMPLES,
    exits=_EXITS,
)
