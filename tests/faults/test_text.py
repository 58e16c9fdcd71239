"""Faults as text and as values: what is good, and how the rest is explained."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from helpers import call, run, serving
from techo import testing
from techo._faults.text import parse_fault, write_fault
from techo.testing import Fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("delay=20ms~5ms", testing.Delay(0.02, 0.005)),
        ("delay=1.5s", testing.Delay(1.5)),
        ("throttle=64k", testing.Throttle(65536)),
        ("slow-accept=1s", testing.SlowAccept(1)),
        ("stall", testing.Stall()),
        ("stall=1000", testing.Stall(1000)),
        ("slow-close=1s", testing.SlowClose(1)),
        ("chunk", testing.Chunk()),
        ("chunk=1-10", testing.Chunk(1, 10)),
        ("chunk=5", testing.Chunk(5, 5)),
        ("truncate=1M", testing.Truncate(2**20)),
        ("corrupt=1%", testing.Corrupt(0.01)),
        ("lengthen=3", testing.Lengthen(3)),
        ("reset=100", testing.Reset(100)),
        ("close-unread", testing.CloseUnread()),
        ("half-close-first", testing.HalfCloseFirst()),
        ("ignore-end", testing.IgnoreEnd()),
        ("never-read", testing.NeverRead()),
        ("refuse,every=3", testing.Refuse(every=3)),
        ("drop=10%", testing.DropReply(0.1)),
        ("delay=5", testing.Delay(5)),
        ("delay=1m~500us", testing.Delay(60, 0.0005)),
        ("stall=1.5k", testing.Stall(1536)),
        ("duplicate", testing.DuplicateReply()),
        ("reorder=10%/3", testing.ReorderReplies(0.1, 3)),
        ("never-handshake", testing.NeverHandshake()),
        ("no-close-notify", testing.NoCloseNotify()),
        ("expired-certificate", testing.ExpiredCertificate()),
        ("wrong-name", testing.WrongName()),
        (
            "corrupt=50%,probability=20%,every=2,from=1k",
            testing.Corrupt(0.5, probability=0.2, every=2, offset=1024),
        ),
        ("reset,first=3,skip=2", testing.Reset(first=3, skip=2)),
        ("stall,between=5s-1m", testing.Stall(between=(5, 60))),
        ("refuse,between=1e-3-", testing.Refuse(between=(0.001, math.inf))),
    ],
)
def test_a_text_is_a_fault(text: str, fault: Fault) -> None:
    """Values are read with their units, and what is written of a fault is read back."""
    assert parse_fault(text) == fault
    assert parse_fault(write_fault(fault)) == fault
    assert eval(repr(fault), {**vars(testing), "inf": math.inf}) == fault  # noqa: S307  -- ours


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "unknown fault ''; there are delay,"),
        ("dealy=1s", "unknown fault 'dealy'"),
        ("delay", "write delay=TIME[~TIME]"),
        ("delay=5M", "'5M' is not a time, such as 500ms, 2s or 1m; M is for sizes"),
        ("delay=off", "'off' is not a time"),
        ("delay=1s~1s~1s", "write delay=TIME[~TIME]"),
        ("stall=-1", "'-1' is not a size, such as 1000, 64k or 1M"),
        ("corrupt=150%", "'150%' is more than 100%"),
        ("reset=0,probability=100.1%", "'100.1%' is more than 100%"),
        ("corrupt=a", "'a' is not a share, such as 1%"),
        ("corrupt=0.1", "'0.1' is not a share, such as 1%; write 10% or 0.1%"),
        ("stall,probability=0.5", "write 50% or 0.5%"),
        ("chunk=9-1", "most 1 is not a whole number from 9"),
        ("chunk=0", "least 0 is not a whole number from 1"),
        ("refuse=3", "write refuse"),
        ("refuse,every", "'every' is none of probability=SHARE, every=N, first=N, skip=N, "),
        ("refuse,first=0", "first 0 is not a whole number from 1, or None"),
        ("refuse,between=5s", "'5s' is not a period, such as 5s-10s, or 5s- without end"),
        ("refuse,between=5s-4s", "between (5.0, 4.0) is not a pair of seconds from 0, "),
        ("refuse,every=x", "'x' is no whole number"),
        ("refuse,ever=1", "'ever=1' is none of"),
    ],
)
def test_a_bad_text_is_explained(text: str, reason: str) -> None:
    """The error names the text, what is wrong with it and what would be right."""
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        parse_fault(text)
    assert repr(text) in str(caught.value)


def test_what_is_written_of_a_fault_is_short() -> None:
    """Text and repr have what was asked for, and no defaults."""
    fault = testing.Delay(0.02, first=3)
    assert (write_fault(fault), repr(fault)) == (
        "delay=20ms,first=3",
        "Delay(seconds=0.02, first=3)",
    )
    with pytest.raises(ValueError, match="has an authority, which no text names"):
        write_fault(testing.WrongName(authority="mine"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: testing.Delay(-1), "seconds -1 is not a number of seconds from 0"),
        (lambda: testing.Stall(probability=2), "probability 2 is not a number from 0 to 1"),
        (lambda: testing.Stall(every=0), "every 0 is not a whole number from 1"),
        (lambda: testing.Stall(first=True), "first True is not a whole number from 1"),
        (lambda: testing.Stall(skip=-1), "skip -1 is not a whole number from 0"),
        (lambda: testing.Stall(between=5), "between 5 is not a pair of seconds from 0"),  # type: ignore[arg-type]
        (lambda: testing.Stall(between=(5, 5)), "the second above the first, such as (5, 10)"),
        (lambda: testing.Stall(between=(-1, 5)), "between (-1, 5) is not a pair of seconds"),
        (lambda: testing.Stall(offset=-1), "offset -1 is not a whole number from 0"),
        (lambda: testing.NeverRead(offset=1), "offset 1 is not 0: NeverRead has no offset"),
        (lambda: testing.Throttle(0), "bytes_per_second 0 is not a whole number from 1"),
    ],
)
def test_a_field_out_of_range_is_a_value_error(make: Callable[[], Fault], reason: str) -> None:
    """The error names the field and the value."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        make()


def test_the_command_line_misbehaves_as_told() -> None:
    """The replies show several faults and a seed given as options."""
    options = ["--fault", "lengthen=3", "--fault", "truncate=7", "--seed", "4"]
    with serving("--reply=raw", *options) as process:
        endpoint = f"127.0.0.1:{process.port}"
        for _ in range(2):
            # Each in a process of its own: the thread that reads standard input is left alone
            # when the server ends the conversation, and would read the next one's, too.
            _, out, _ = run("talk", endpoint, stdin=b"hello")
            assert (out[:5], len(out)) == (b"hello", 7)
        code, _, err = process.finish()
    assert code == 0
    assert err.count("outcome=faulted") == 2


def test_faults_that_are_given_replace_those_of_the_environment() -> None:
    """Faults given as options replace those of the environment, as every option does."""
    environment = {"TECHO_FAULT": "lengthen=3"}
    for options, size in (([], 8), (["--fault", "lengthen=1"], 6)):
        with serving("--reply=raw", *options, environment=environment) as process:
            _, out, _ = call("talk", f"127.0.0.1:{process.port}", stdin=b"hello")
        assert len(out) == size


def test_a_fault_that_cannot_happen_is_one_line() -> None:
    """The exit status is 2, and the text names where it could happen."""
    code, out, err = call("--fault", "reset", "udp://127.0.0.1:0")
    assert (code, out) == (2, b"")
    assert err.startswith("techo: fault reset ")
    assert "cannot happen on udp://127.0.0.1:0, only on memory, mptcp, tcp, tls\n" in err
    assert err.count("\n") == 1
