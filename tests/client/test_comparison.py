"""The comparison: whatever a server can have meant is found, and nothing else is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from techo import EchoMismatch, ShortReply
from techo._client.comparison import Comparison
from techo.reply import STAMP_LENGTH, stamp_at, stamped

NOON = b"[Sun Nov 22 12:00:00 2026] "
LATER = b"[Mon Nov 23 12:00:00 2026] "
stamps = st.sampled_from([NOON, LATER])

# Bytes that look like stamps, or almost, are where a comparison can go wrong.
tricky = st.lists(
    st.one_of(
        stamps,
        st.builds(lambda stamp, length: stamp[:length], stamps, st.integers(1, 26)),
        st.builds(lambda stamp, length: stamp[length:], stamps, st.integers(1, 26)),
        st.sampled_from([b"[", b"[S", b"x", b"\n"]),
        st.binary(max_size=4),
    ),
    max_size=6,
).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Split into pieces that are not empty."""
    edges = [0, *sorted({each % (len(data) + 1) for each in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


places = st.lists(st.integers(0, 1000), max_size=6)


def explainable(sent: bytes, reply: bytes) -> bool:
    """Return whether `reply` may begin an echo of `sent`, by trying everything."""
    # By offset in the reply: how much of what was sent it may stand for, after how many stamps.
    readings = {0: {(0, 0)}}
    for offset in range(len(reply)):
        for position, count in readings.get(offset, ()):
            if position < len(sent) and sent[position] == reply[offset]:
                readings.setdefault(offset + 1, set()).add((position + 1, count))
            # Each stamp announces a byte at least, or the one reply to an empty datagram.
            if stamp_at(reply, offset) and count < max(1, len(sent)):
                readings.setdefault(offset + STAMP_LENGTH, set()).add((position, count + 1))
            elif len(reply) - offset < STAMP_LENGTH and may_be_cut_stamp(reply[offset:]):
                return True
    return len(reply) in readings


def may_be_cut_stamp(tail: bytes) -> bool:
    """Return whether more bytes would make `tail` one of the two stamps."""
    return any(stamp.startswith(tail) for stamp in (NOON, LATER))


@given(st.lists(st.tuples(tricky, st.none() | stamps), max_size=6), places)
@example([(b"[Sun ", None), (b"Nov", NOON)], [5])
@example([(NOON[:5], NOON), (NOON[5:], NOON)], [])
def test_an_honest_echo_is_explained_under_every_split(
    chunks: list[tuple[bytes, bytes | None]], splits: list[int]
) -> None:
    """Stamps may stand before any chunk, and payload may look like stamps."""
    chunks = [each for each in chunks if each[0]]  # no server is sent an empty one
    sent = b"".join(chunk for chunk, _ in chunks)
    reply = b"".join((stamp or b"") + chunk for chunk, stamp in chunks)
    comparison = Comparison(sent)
    for piece in cut(reply, splits):
        comparison.feed(piece)
    assert comparison.complete
    assert comparison.missing == 0
    assert comparison.reply == reply
    assert len(reply) == len(sent) + STAMP_LENGTH * len(comparison.stamps)


@given(tricky, tricky, places)
@example(b"abc", b"abcd", [])
@example(b"abc", b"ab" + NOON + b"d", [])
@example(b"", NOON + NOON, [])
def test_what_has_no_explanation_is_a_mismatch_under_every_split(
    sent: bytes, reply: bytes, splits: list[int]
) -> None:
    """An oracle that tries everything agrees."""
    comparison = Comparison(sent)
    error = None
    try:
        for piece in cut(reply, splits):
            comparison.feed(piece)
    except EchoMismatch as mismatch:
        error = mismatch
    if error is not None:
        assert not explainable(sent, reply)
        assert sent[error.offset :].startswith(error.expected)
        assert error.received in reply
    else:
        # The oracle knows the two stamps only; a cut one that it doesn't know may be another.
        assert explainable(sent, reply) or b"[" in reply[-STAMP_LENGTH:]


@given(tricky.filter(bool), places, st.data())
def test_an_echo_that_ends_early_is_short(
    sent: bytes, splits: list[int], data: st.DataObject
) -> None:
    """End-of-file before the last byte says how many came."""
    length = data.draw(st.integers(0, len(sent) - 1))
    comparison = Comparison(sent)
    for piece in cut(sent[:length], splits):
        comparison.feed(piece)
    with pytest.raises(ShortReply) as caught:
        comparison.feed(b"")
    assert (caught.value.received, caught.value.expected) == (length, len(sent))


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.booleans()), max_size=40))
def test_forgetting_changes_no_verdict(chunks: list[tuple[bytes, bool]]) -> None:
    """An endless echo is followed piece by piece, with little kept."""
    comparison = Comparison()
    for number, (chunk, is_stamped) in enumerate(chunks):
        payload = b"%d" % number * 30_000 + chunk
        comparison.expect(payload)
        comparison.feed((NOON if is_stamped else b"") + payload)
        assert comparison.complete
        comparison.forget()
        assert len(comparison.reply) <= 2**16
    matched = comparison.matched
    assert matched == sum(len(b"%d" % n) * 30_000 + len(c) for n, (c, _) in enumerate(chunks))
    comparison.expect(b"last")
    with pytest.raises(EchoMismatch) as caught:
        comparison.feed(b"lost")
    assert caught.value.offset == matched + 1
    assert (caught.value.expected, caught.value.received) == (b"ast", b"ost")


@pytest.mark.parametrize("unit", [NOON, b"["])
def test_a_wrong_echo_made_of_stamps_is_given_up_on(unit: bytes) -> None:
    """It would take hours to try all explanations; a few thousand are enough."""
    sent = unit * (2**18 // len(unit))
    comparison = Comparison(sent + b"right")
    with pytest.raises(EchoMismatch) as caught:
        comparison.feed(sent + b"wrong")
    assert caught.value.offset == len(sent)
    assert len(comparison._refuted) <= 5000


def test_errors_say_what_differed_and_where() -> None:
    """They have the offset in what was sent, and some bytes on from there."""
    comparison = Comparison(b"hello world")
    with pytest.raises(EchoMismatch) as caught:
        comparison.feed(NOON + b"hello_world")
    assert caught.value.offset == 5
    assert str(caught.value) == (
        "the echo differs at offset 5: expected b' world', received b'_world'"
    )
    with pytest.raises(EchoMismatch, match="expected b'', received b'!'"):
        Comparison(b"hello").feed(b"hello!")
    with pytest.raises(ShortReply, match="ended after 0 of 5 bytes"):
        Comparison(b"hello").feed(b"")


def test_stamps_are_given_in_the_words_of_ctime() -> None:
    """They come without brackets, in order."""
    comparison = Comparison(b"ab")
    comparison.feed(NOON + b"a" + LATER + b"b")
    assert comparison.stamps == ("Sun Nov 22 12:00:00 2026", "Mon Nov 23 12:00:00 2026")


@pytest.mark.parametrize("sent", [1, 2, 64])
def test_more_stamps_than_bytes_are_no_echo(sent: int) -> None:
    """A stamp announces at least a byte: a server that sends only stamps is soon found out."""
    comparison = Comparison(b"x" * sent)
    stamp = stamped(b"")
    for _ in range(sent):
        comparison.feed(stamp)
    with pytest.raises(EchoMismatch):
        comparison.feed(stamp)
    assert len(comparison.reply) == (sent + 1) * len(stamp)


def test_stamps_that_were_forgotten_are_still_counted() -> None:
    """However long an echo has gone on, nothing but stamps is no echo."""
    comparison = Comparison()
    for _ in range(1200):
        comparison.expect(b"y" * 40)
        comparison.feed(stamped(b"y" * 40))
        comparison.forget()
    stamps = stamped(b"") * 400
    for _ in range(1200 * 40 // 400 - 1200 // 400):
        comparison.feed(stamps)
        comparison.forget()
    with pytest.raises(EchoMismatch):
        comparison.feed(stamps)
