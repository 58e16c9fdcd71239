"""techo talk over TCP: in a pipe, out of a file, and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from helpers import PATIENCE, call, command, free_endpoint, run, serving

Script = Callable[[socket.socket], None]


def talk_to(script: Script, stdin: bytes) -> tuple[int, bytes, str]:
    """Talk to a server that follows a script for one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                script(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return call("talk", str(listener.getsockname()[1]), stdin=stdin)
        finally:
            thread.join(PATIENCE)


@pytest.mark.parametrize("reply", ["raw", "stamped"])
def test_a_pipe_gets_everything_back(reply: str) -> None:
    """More than any buffer holds comes back, and the exit code is 0."""
    data = os.urandom(2**20) * 20
    with serving("-q", "--reply", reply) as process:
        code, out, err = run("talk", str(process.port), stdin=data)
    assert (code, err) == (0, "")
    assert re.sub(rb"\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] ", b"", out) == data


def test_a_line_without_an_end_is_answered(port: str) -> None:
    """The tutorial's client sends such lines."""
    code, out, _ = call("talk", port, stdin=b"hello")
    assert code == 0
    assert re.fullmatch(rb"\[.{24}\] hello", out)


def test_no_input_is_no_failure(port: str) -> None:
    """No reply is pending then; a closed standard input is the same."""
    assert call("talk", port) == (0, b"", "")
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command("talk", port)],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, b"", b"")


def test_input_that_cannot_be_read_is_said(port: str) -> None:
    """An example is a file opened for writing."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 0>/dev/null', "sh", *command("talk", port)],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == b"techo: cannot read standard input: Bad file descriptor\n"
    assert done.returncode == 1


def test_replies_are_printed_as_they_come() -> None:
    """They are printed before the input has ended."""
    with serving("-q", "--reply", "raw") as process:
        talk = subprocess.Popen(
            command("talk", str(process.port)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert talk.stdin is not None
        assert talk.stdout is not None
        for word in (b"one", b"two"):
            talk.stdin.write(word)
            talk.stdin.flush()
            assert select.select([talk.stdout], [], [], PATIENCE)[0]
            assert os.read(talk.stdout.fileno(), 100) == word
        assert talk.communicate(timeout=PATIENCE)[0] == b""
        assert talk.returncode == 0


def read_all(sock: socket.socket) -> bytes:
    """Receive until the client half-closes."""
    received = b""
    while chunk := sock.recv(65536):
        received += chunk
    return received


def test_a_server_that_owes_bytes_has_cut_it_short() -> None:
    """The exit code is 1, and the line says how much is missing."""
    code, out, err = talk_to(lambda sock: sock.sendall(read_all(sock)[:3]), b"hello")
    assert (code, out) == (1, b"hel")
    assert "with 2 bytes missing" in err
    assert len(err.splitlines()) == 1


def test_a_reset_has_cut_it_short() -> None:
    """A reset is reported as an early end is."""

    def rude(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"h")  # what stays unread makes closing a reset

    code, _, err = talk_to(rude, b"hello" * 1000)
    assert code == 1
    assert "ended the connection" in err


def test_a_server_that_closes_before_the_input_ends_has_cut_it_short() -> None:
    """It has, even if no reply is missing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        talk = subprocess.Popen(
            command("talk", str(listener.getsockname()[1])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        listener.accept()[0].close()
        assert talk.wait(PATIENCE) == 1
        _, err = talk.communicate()
    assert b"before the input ended" in err


def test_a_server_that_is_no_echo_is_printed_all_the_same() -> None:
    """Talk compares only to know which replies are pending."""

    def shout(sock: socket.socket) -> None:
        sock.sendall(read_all(sock).upper() + b"!")

    assert talk_to(shout, b"hello") == (0, b"HELLO!", "")


def test_nobody_there_is_exit_code_2() -> None:
    """One line has the endpoint, the reason and the remedy."""
    endpoint = free_endpoint("tcp")
    code, out, err = call("talk", endpoint)
    assert (code, out) == (2, b"")
    assert err == (
        f"techo: cannot connect to {endpoint}: connection refused; "
        "start a server there, or check host and port\n"
    )
    code, _, err = call("talk", "no-such-host.invalid:1")
    assert (code, "unknown host" in err, len(err.splitlines())) == (2, True, 1)
    code, _, err = call("talk", "*:8009")
    assert (code, "name host and port" in err, len(err.splitlines())) == (2, True, 1)
    code, _, err = call("talk", "localhost", "8009")
    assert (code, "'localhost'" in err, len(err.splitlines())) == (2, True, 1)


def test_output_that_cannot_be_written_is_said(port: str) -> None:
    """A full disk is reported; a closed standard output is as good as nobody reading."""
    for redirection, code, err in [
        (
            ">/dev/full",
            1,
            b"techo: cannot write to standard output: No space left on device\n",
        ),
        (">&-", 0, b""),
    ]:
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirection}', "sh", *command("talk", port)],
            input=b"hello",
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", err)


def test_whoever_reads_the_output_may_leave() -> None:
    """`techo talk | head -c 1` ends without a traceback."""
    with serving("-q", "--reply", "raw") as process:
        done = subprocess.run(
            ["sh", "-c", '"$@" | head -c 1', "sh", *command("talk", str(process.port))],
            input=bytes(2**22),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.stdout, done.stderr) == (b"\0", b"")


class Terminal:
    """A techo talk on a pseudo-terminal."""

    def __init__(self, port: int) -> None:
        self.master, slave = pty.openpty()
        self.talk = subprocess.Popen(
            command("talk", str(port)), stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def expect(self, pattern: bytes) -> None:
        """Read the screen until it shows `pattern`."""
        shown = b""
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, shown):
            assert time.monotonic() < end, shown
            if select.select([self.master], [], [], 0.1)[0]:
                shown += os.read(self.master, 1000)

    def close(self) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self.talk.wait(PATIENCE)
        finally:
            os.close(self.master)


@pytest.mark.parametrize("ending", [b"\n", b"\x04"], ids=["empty line", "Ctrl-D"])
def test_on_a_terminal_it_prompts_line_by_line(ending: bytes, port: str) -> None:
    """It prints a prompt, reads a line, prints its reply, and prompts on a new line."""
    terminal = Terminal(int(port))
    terminal.expect(rb"> $")
    terminal.type(b"how are you?\n")
    terminal.expect(rb"\n\[.{24}\] how are you\?\r\n> $")
    terminal.type(ending)
    assert terminal.close() == 0


def test_ctrl_c_ends_it_as_it_ends_any_program(port: str) -> None:
    """It prints no traceback, and the shell sees the signal."""
    terminal = Terminal(int(port))
    terminal.expect(rb"> $")
    terminal.talk.send_signal(signal.SIGINT)
    assert terminal.close() == -signal.SIGINT


def test_a_server_that_stops_is_noticed_at_the_prompt() -> None:
    """It is noticed before a key is pressed."""
    with serving("-q") as process:
        terminal = Terminal(process.port)
        terminal.expect(rb"> $")
        process.popen.send_signal(signal.SIGTERM)
        terminal.expect(rb"ended the connection before the input ended")
        assert terminal.close() == 1
        assert process.finish(None)[0] == 0


def test_a_silent_server_is_not_waited_for_longer_than_asked() -> None:
    """With -W the time counts from the last byte in either direction; the exit code is 1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = ["talk", "-W", "100ms", str(listener.getsockname()[1])]
        code, out, err = call(*arguments, stdin=b"hello")
    assert (code, out) == (1, b"")
    assert err.endswith(" has sent nothing for 100ms with 5 bytes missing\n")


def test_a_server_that_keeps_the_connection_open_has_answered_all() -> None:
    """With -W its end-of-file is not waited for either, and nothing is missing."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(read_all(sock))
                done.wait(PATIENCE)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            arguments = ["talk", "-W", "200ms", str(listener.getsockname()[1])]
            assert call(*arguments, stdin=b"hello") == (0, b"hello", "")
        finally:
            done.set()
            thread.join(PATIENCE)


def test_a_datagram_is_lost_after_the_time_that_was_asked_for() -> None:
    """With -W the talk goes on after that time, whatever the default is."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        endpoint = f"udp://127.0.0.1:{silent.getsockname()[1]}"
        code, out, err = call("talk", "-W", "100ms", endpoint, stdin=b"hello\n")
    assert (code, out) == (1, b"")
    assert err == "techo: no echo of 6 bytes within 100ms\n"
