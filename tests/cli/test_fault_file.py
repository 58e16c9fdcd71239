"""serve --fault-file: what is in it, what is wrong with it, and the signal to read it again."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest

from helpers import call, dial, serving, wait_until
from techo._cli.fault_file import REREAD, Faults
from techo.testing import Delay, Fault, Reset

pytestmark = pytest.mark.skipif(not REREAD, reason="this system has no SIGUSR2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of faults."""
    return tmp_path / "faults"


def test_a_file_has_a_fault_on_each_line(path: Path) -> None:
    """Comments and empty lines are none; the options' own faults come first."""
    path.write_text("# after a change\n\n  delay=20ms,first=3 # slow\nreset=7,skip=3\n")
    faults = Faults([Reset()], str(path))
    assert faults.read() == (Reset(), Delay(0.02, first=3), Reset(7, skip=3))
    assert Faults([Reset()]).read() == (Reset(),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"reset\n\ndelay", ":3: bad fault 'delay': write delay=TIME"),
        (b"reset=1,2", ":1: bad fault 'reset=1,2': '2' is none of probability=SHARE"),
        (b"\xff", "it is no text in UTF-8"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_wrong_has_file_and_line(
    content: bytes | None, reason: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start that is an error, later a warning, and nothing is put into effect."""
    if content is not None:
        path.write_bytes(content)
    found: list[tuple[Fault, ...]] = []
    with caplog.at_level(logging.INFO):
        assert not Faults([], str(path)).read_again(found.append)
    assert not found
    (text,) = [record.getMessage() for record in caplog.records]
    assert reason in text
    assert str(path) in text
    assert text.endswith("; the faults stay as they were")
    with pytest.raises(ValueError, match="faults"):
        Faults([], str(path)).read()


def test_a_signal_has_it_read_again(path: Path) -> None:
    """New connections have what is in it then; a bad file changes nothing."""
    path.write_text("")
    with serving("--reply=raw", "--fault-file", str(path)) as process:

        def trip() -> bytes:
            with dial(process) as sock:
                sock.sendall(b"hello")
                sock.settimeout(10)
                return sock.recv(100)

        def read_again(content: str, result: str) -> None:
            path.write_text(content)
            process.popen.send_signal(signal.SIGUSR2)
            wait_until(lambda: result in process.read_log(), "it has read them")

        assert trip() == b"hello"
        read_again("lengthen=3", f"read {path}: 1 fault from now on")
        assert len(trip()) == 8
        read_again("truncate=2\ndrop=1%", "fault drop=1% cannot happen on tcp://")
        assert len(trip()) == 8
        read_again("truncate=2,first=1\nlengthen=1", f"read {path}: 2 faults from now on")
        assert [len(trip()) for _ in range(2)] == [2, 6]
        assert process.finish()[0] == 0


def test_a_bad_file_is_one_line_at_the_start(path: Path) -> None:
    """The exit status is 2."""
    path.write_text("dealy=1s")
    code, out, err = call("--fault-file", str(path), "tcp://127.0.0.1:0")
    assert (code, out) == (2, b"")
    reason = "bad fault 'dealy=1s': unknown fault 'dealy'; did you mean delay?"
    assert err == f"techo: {path}:1: {reason}\n"
