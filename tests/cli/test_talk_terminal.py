"""techo talk in front of a terminal: lines are edited, and it leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import signal
import socket
import subprocess
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import PATIENCE, Process, command, receive_exactly, serving
from terminals import Terminal, any_on_a_terminal, on_a_terminal

UP, LEFT = b"\x1b[A", b"\x1b[D"

pytest.importorskip("readline")


@pytest.fixture
def raw() -> Iterator[Process]:
    """Return a server that sends back what it gets."""
    with serving("-q", "--reply", "raw") as process:
        yield process


def settings(terminal: Terminal) -> list[Any]:
    """Return how a terminal is set."""
    return termios.tcgetattr(terminal.master)


def test_a_line_can_be_edited_and_comes_back(raw: Process) -> None:
    """Keys move in the line, and the arrow up has the line before; its reply is a line."""
    with on_a_terminal("talk", str(raw.port)) as terminal:
        terminal.read_until("> ")
        terminal.type(b"helo" + LEFT + b"l\r")
        terminal.read_until("\nhello\r\n> ")
        terminal.type(UP + b" again\r")
        terminal.read_until("\nhello again\r\n> ")
        terminal.type(b"\x04")
        assert terminal.popen.wait(PATIENCE) == 0


def test_what_is_no_text_passes_unchanged(raw: Process) -> None:
    """Bytes that the terminal's encoding does not have are sent all the same."""
    with on_a_terminal("talk", str(raw.port)) as terminal:
        terminal.read_until("> ")
        terminal.type("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n\r".encode())
        terminal.read_until("\ngr\N{LATIN SMALL LETTER U WITH DIAERESIS}n\r\n> ")
        terminal.type(b"\r")
        assert terminal.popen.wait(PATIENCE) == 0


@pytest.mark.parametrize("keys", [b"\x03", b"half a line\x03"], ids=["nothing", "half a line"])
def test_ctrl_c_leaves_the_terminal_as_it_was(raw: Process, keys: bytes) -> None:
    """It ends by the signal, as any program does."""
    with on_a_terminal("talk", str(raw.port)) as terminal:
        terminal.read_until("> ")
        before = settings(terminal)
        assert not before[3] & termios.ICANON  # the prompt has it
        terminal.type(keys)
        assert terminal.popen.wait(PATIENCE) == -signal.SIGINT
        assert settings(terminal)[3] & termios.ICANON
        assert settings(terminal)[3] & termios.ECHO


def test_sigterm_leaves_the_terminal_as_it_was(raw: Process) -> None:
    """It is no different from Ctrl-C."""
    with on_a_terminal("talk", str(raw.port)) as terminal:
        terminal.read_until("> ")
        terminal.popen.terminate()
        assert terminal.popen.wait(PATIENCE) == -signal.SIGTERM
        assert settings(terminal)[3] & termios.ECHO


def test_a_server_that_stops_at_the_prompt_is_reported_on_a_line_of_its_own(
    raw: Process,
) -> None:
    """Nobody has to press a key, and the terminal is as it was."""
    with on_a_terminal("talk", str(raw.port)) as terminal:
        terminal.read_until("> ")
        raw.popen.send_signal(signal.SIGTERM)
        terminal.read_until(
            f"\r\ntecho: tcp://127.0.0.1:{raw.port} ended the connection before the input ended"
        )
        assert terminal.popen.wait(PATIENCE) == 1
        assert settings(terminal)[3] & termios.ECHO


def test_a_server_that_stops_in_mid_line_is_noticed(raw: Process) -> None:
    """What was typed so far is lost, and nothing else happens."""
    with on_a_terminal("talk", str(raw.port)) as terminal:
        terminal.read_until("> ")
        terminal.type(b"half")
        terminal.read_until("half")
        raw.popen.send_signal(signal.SIGTERM)
        terminal.read_until("before the input ended")
        assert terminal.popen.wait(PATIENCE) == 1


def test_output_into_a_file_keeps_the_prompt_out_of_it(raw: Process) -> None:
    """Then no line is edited, and the prompt is on standard error as before."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        command("talk", str(raw.port)), stdin=slave, stdout=subprocess.PIPE, stderr=slave
    ) as popen:
        os.close(slave)
        os.write(master, b"hello\n\x04")
        out, _ = popen.communicate(timeout=PATIENCE)
        seen = os.read(master, 1000)
    os.close(master)
    assert (popen.returncode, out) == (0, b"hello\n")
    assert b"> " in seen


@contextlib.contextmanager
def talking(*arguments: str) -> Iterator[tuple[Terminal, socket.socket]]:
    """Talk to a peer that does what a test says, until the first prompt is shown."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        port = str(listener.getsockname()[1])
        with on_a_terminal("talk", *arguments, port) as terminal:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(PATIENCE)
                terminal.read_until("> ")
                yield terminal, peer


def test_ctrl_d_while_a_reply_is_awaited_ends_the_input_after_it() -> None:
    """It is kept for the next prompt, as all that is typed meanwhile."""
    with talking() as (terminal, peer):
        terminal.type(b"hello\r")
        assert receive_exactly(peer, 5) == b"hello"
        terminal.type(b"again\r\x04")
        peer.sendall(b"hello")
        terminal.read_until("hello\r\n> again\r\n")
        assert receive_exactly(peer, 5) == b"again"
        peer.sendall(b"again")
        terminal.read_until("again\r\n> \r\n")
        assert peer.recv(1) == b""
        peer.close()
        assert terminal.popen.wait(PATIENCE) == 0
        assert settings(terminal)[3] & termios.ICANON


def test_a_note_does_not_begin_behind_half_a_reply() -> None:
    """It has a line of its own."""
    for seconds in (0.2, 2, 20):  # until half of it comes within the time
        with talking("-W", str(seconds)) as (terminal, peer):
            terminal.type(b"hello\r")
            assert receive_exactly(peer, 5) == b"hello"
            peer.sendall(b"hel")
            terminal.read_until("techo: no echo of 5 bytes within ")
        if "hel\r\n" in terminal.seen:
            break
    assert "hel\r\ntecho: no echo of 5 bytes within " in terminal.seen


def test_a_late_reply_has_a_line_of_its_own_and_the_prompt_comes_back() -> None:
    """So has what was typed behind the prompt."""
    with talking("-W", "100ms") as (terminal, peer):
        terminal.type(b"hello\r")
        assert receive_exactly(peer, 5) == b"hello"
        terminal.read_until("within 100ms\r\n> ")
        terminal.type(b"ha")
        terminal.read_until("ha")
        peer.sendall(b"hello")
        terminal.read_until("\r\nhello\r\n> ha")
        terminal.type(b"lf\r")
        assert receive_exactly(peer, 4) == b"half"


def test_after_ctrl_z_and_fg_the_prompt_is_shown_again(raw: Process) -> None:
    """Meanwhile the terminal is the shell's; then it is as it was, with what was typed."""
    with any_on_a_terminal("sh", "-i") as terminal:
        typed = shlex.join(command("talk", str(raw.port)))
        terminal.type(f"PS1=ready:\nset -m; {typed}\n".encode())
        terminal.read_until("> ")
        terminal.type(b"he")
        terminal.read_until("he")
        terminal.type(b"\x1a")
        terminal.read_until("ready:")
        assert settings(terminal)[3] & termios.ICANON
        terminal.type(b"fg\n")
        terminal.read_until("> he")
        terminal.type(b"llo\r")
        terminal.read_until("llo\r\nhello\r\n> ")
        terminal.type(b"\x04")
        terminal.read_until("ready:")


def test_a_server_that_stops_is_reported_on_a_line_of_its_own_without_editing(
    raw: Process,
) -> None:
    """Without an editor the prompt is on standard error, and is left in the same way."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        command("talk", str(raw.port)), stdin=slave, stdout=subprocess.PIPE, stderr=slave
    ) as popen:
        os.close(slave)
        terminal = Terminal(popen, master)
        terminal.read_until("> ")
        raw.popen.send_signal(signal.SIGTERM)
        terminal.read_until("\r\ntecho: tcp://")
        assert popen.wait(PATIENCE) == 1
    os.close(master)


def test_a_reply_that_does_not_come_is_reported_and_the_prompt_comes_back() -> None:
    """With -W a server that is silent does not keep the prompt away."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        on_a_terminal("talk", "-W", "100ms", str(listener.getsockname()[1])) as terminal,
    ):
        listener.settimeout(PATIENCE)
        silent, _ = listener.accept()
        with silent:
            terminal.read_until("> ")
            terminal.type(b"hello\r")
            terminal.read_until("techo: no echo of 5 bytes within 100ms\r\n> ")
            terminal.type(b"\x04")
            terminal.read_until("has sent nothing for 100ms with 5 bytes missing")
            assert terminal.popen.wait(PATIENCE) == 1
