"""Stamping: which stamp is of which trip, and which times are not believed."""

from __future__ import annotations

import pytest

from techo._kernel.error_queue import SendStamp
from techo._kernel.packets import Packet
from techo._kernel.stamps import IDS
from techo._probing.stamping import _MOST, Stamping
from techo._probing.trip import Clock, Trip


def trip(number: int = 1) -> Trip:
    """Return a trip that took 1 ms by the user's clock."""
    return Trip(number, b"x", due=0.0, sent=5.0, arrived=5.001)


def test_datagrams_are_counted_one_by_one() -> None:
    """A stamp is of the trip whose datagram has its number; the first one counts."""
    stamping, trips = Stamping(bytewise=False), [trip(1), trip(2)]
    for each in trips:
        stamping.note_sent(64, each)
    for stamp in (SendStamp(1, 20), SendStamp(0, 10), SendStamp(0, 99), SendStamp(7, 7)):
        stamping.take(stamp)
    assert [each.sent_ns for each in trips] == [10, 20]


def test_bytes_are_counted_to_the_last_of_a_message() -> None:
    """Over TCP: of a message that was sent in parts, and beyond 32 bits."""
    stamping, first, last = Stamping(bytewise=True), trip(1), trip(2)
    stamping.note_sent(60, None)
    stamping.note_sent(4, first)
    stamping.take(SendStamp(59, 1))  # of the first part
    stamping.take(SendStamp(63, 2))
    stamping.note_sent(IDS, last)
    stamping.take(SendStamp(63, 3))
    assert (first.sent_ns, last.sent_ns) == (2, 3)


def test_stamps_that_never_come_are_forgotten() -> None:
    """They do not add up over days, and counting again forgets all of them."""
    stamping = Stamping(bytewise=False)
    for number in range(2 * _MOST):
        stamping.note_sent(1, trip(number))
    assert len(stamping._trips) == _MOST
    stamping.restart()
    again = trip()
    stamping.note_sent(1, again)
    stamping.take(SendStamp(0, 4))
    assert again.sent_ns == 4


@pytest.mark.parametrize(
    ("sent", "received", "took"),
    [
        (100, 100, 0),
        (100, 1_000_100, 1_000_000),
        (100, 1_000_101, None),  # longer than by the user's clock: it was set forward
        (100, 99, None),  # set back
        (None, 100, None),
        (100, None, None),
    ],
)
def test_a_time_is_believed_within_the_user_s(
    sent: int | None, received: int | None, took: int | None
) -> None:
    """Else the trip is timed by the user's clock: when that was set, or a stamp is missing."""
    timed = trip()
    timed.sent_ns = sent
    Stamping.time(timed, Packet(b"x", received))
    assert timed.kernel_ns == took
    assert timed.clock is (Clock.USER if took is None else Clock.KERNEL)
    assert timed.duration_ns == (1_000_000 if took is None else took)
