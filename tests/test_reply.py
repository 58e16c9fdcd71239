"""Replies: the same bytes, or the same bytes after a stamp."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import techo
from techo import reply


@given(st.binary())
def test_raw_gives_the_same_bytes(chunk: bytes) -> None:
    """RFC 862: every byte unchanged."""
    assert techo.raw(chunk) == chunk


@given(st.binary())
def test_stamped_puts_ctime_in_brackets_and_a_space_before_the_chunk(chunk: bytes) -> None:
    """The tutorial's reply, byte for byte."""
    # ctime without an argument reads a coarser clock, which still says the second before for a
    # few milliseconds after time() has gone on.
    before = time.time()
    answer = techo.stamped(chunk)
    after = time.time()
    assert answer in {f"[{time.ctime(now)}] ".encode() + chunk for now in (before, after)}


def test_the_stamp_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stamp follows the clock when the second changes, backwards too, and not before."""
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    made: list[float] = []
    ctime = time.ctime

    def counted(second: float) -> str:
        made.append(second)
        return ctime(second)

    monkeypatch.setattr(time, "ctime", counted)
    for step in (0.0, 0.5, 0.9, 1.0, 1.1, -7.0):
        now = 1_800_000_000.0 + step
        assert techo.stamped(b"x") == f"[{ctime(now)}] x".encode()
    assert made == [1_800_000_000, 1_800_000_001, 1_799_999_993]


@given(st.integers(0, 2**33), st.binary(max_size=40), st.binary(max_size=40))
def test_a_stamp_is_recognised_wherever_it_stands(
    second: int, before: bytes, behind: bytes
) -> None:
    """Any second's stamp is found at its offset, and each of its beginnings may become one."""
    stamp = f"[{time.ctime(second)}] ".encode()
    assert len(stamp) == reply.STAMP_LENGTH
    assert reply.stamp_at(before + stamp + behind, len(before)) == time.ctime(second)
    for length in range(len(stamp)):
        assert reply.may_become_stamp(stamp[:length])
    assert not reply.may_become_stamp(stamp)  # it is one


@given(st.integers(0, 2**33), st.integers(0, 26), st.integers(0, 255))
def test_a_changed_byte_makes_no_stamp_unless_it_makes_another(
    second: int, at: int, byte: int
) -> None:
    """What is recognised is written as ctime writes; one wrong byte is found out."""
    stamp = bytearray(f"[{time.ctime(second)}] ".encode())
    stamp[at] = byte
    found = reply.stamp_at(stamp, 0)
    shape = rb"\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d \d{4}\] "
    if not re.fullmatch(shape, stamp):
        assert found is None
        assert (
            not all(reply.may_become_stamp(stamp[:length]) for length in range(27)) or at == 26
        )
