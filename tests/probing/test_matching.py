"""Matching: every message that comes back is told, once, and as what it has become."""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import techo
from techo._probing import matching
from techo._probing.matching import InOrder, OneByOne, State
from techo._probing.payloads import Payloads

STAMP = b"[Sun Nov 22 06:15:00 2026] "
NONCE = bytes(range(200, 208))


@attrs.frozen(eq=False)
class Message:
    """A message that was sent; of two with the same bytes, each is itself."""

    payload: bytes


def messages_of(sizes: Sequence[int]) -> list[Message]:
    """A run's first messages."""
    payloads = Payloads(max(sizes), NONCE)
    return [Message(payloads.make(number, size)) for number, size in enumerate(sizes, 1)]


def apart() -> OneByOne[Message]:
    """What matches those where messages are kept apart."""
    payloads = Payloads(90, NONCE, least=16)
    payloads.make(10_000, 64)
    return OneByOne(payloads)


@attrs.frozen
class Dialogue:
    """Messages over a stream, and the reply to all of them."""

    messages: list[Message]
    reply: bytes
    ends: list[int]
    """For each message, how much of the reply has come when all of it has."""
    cuts: list[int]
    """Where the reply is cut into chunks."""

    @property
    def chunks(self) -> list[bytes]:
        """The reply, as it comes in."""
        cuts = [0, *self.cuts, len(self.reply)]
        return [self.reply[a:b] for a, b in itertools.pairwise(cuts) if a < b]


@st.composite
def dialogues(draw: st.DrawFn) -> Dialogue:
    """Any number of messages, stamps and cuts, each anywhere."""
    messages = messages_of(draw(st.lists(st.integers(1, 90), min_size=1, max_size=6)))
    sent = b"".join(message.payload for message in messages)
    # At most one before each byte, which is what a stamp announces.
    places = draw(st.lists(st.integers(0, len(sent) - 1), max_size=4, unique=True))
    reply, byte_ends = b"", []
    for offset in range(len(sent)):
        reply += STAMP * places.count(offset) + sent[offset : offset + 1]
        byte_ends.append(len(reply))
    lengths = itertools.accumulate(len(message.payload) for message in messages)
    ends = [byte_ends[length - 1] for length in lengths]
    cuts = draw(st.lists(st.integers(1, len(reply)), max_size=8).map(sorted))
    return Dialogue(messages, reply, ends, cuts)


@given(dialogues(), st.integers(0, 5))
def test_over_a_stream_each_is_told_once_in_order_and_at_once(
    dialogue: Dialogue, ahead: int
) -> None:
    """Whatever the chunks and wherever the stamps, however many are sent ahead of the reply."""
    in_order, fed = InOrder[Message](), 0
    told: list[Message | None] = []
    unsent = list(zip([0, *dialogue.ends], dialogue.messages, strict=False))
    for chunk in dialogue.chunks:
        fed += len(chunk)
        while unsent and unsent[0][0] < fed + 40 * ahead:
            in_order.expect(unsent.pop(0)[1])
        told += [message for _, message in in_order.feed(chunk)]
        assert told == dialogue.messages[: sum(end <= fed for end in dialogue.ends)]
    assert told == dialogue.messages
    assert not in_order.midway
    assert in_order.owed == 0


@given(dialogues(), st.data())
def test_over_a_stream_what_came_whole_before_an_altered_byte_is_told(
    dialogue: Dialogue, data: st.DataObject
) -> None:
    """And then that something else came, in however many chunks."""
    at = data.draw(st.integers(0, len(dialogue.reply) - 1))
    altered = bytearray(dialogue.reply)
    altered[at] ^= 0xFF  # which is neither in a stamp, nor in the message in this place
    in_order = InOrder[Message]()
    for message in dialogue.messages:
        in_order.expect(message)
    told: list[Message | None] = []

    def feed() -> None:
        for chunk in attrs.evolve(dialogue, reply=bytes(altered)).chunks:
            for _, message in in_order.feed(chunk):
                told.append(message)

    with pytest.raises(techo.EchoMismatch):
        feed()
    assert told == dialogue.messages[: sum(end <= at for end in dialogue.ends)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_over_a_stream_bytes_too_many_are_the_last_one_s(count: int) -> None:
    """If they come with it; it is then none that came back as it was sent."""
    in_order, messages = InOrder[Message](), messages_of([30] * count)
    for message in messages:
        in_order.expect(message)
    arriving = iter(in_order.feed(b"".join(each.payload for each in messages) + b"!"))
    told = list(itertools.islice(arriving, count - 1))
    assert told == [(State.WHOLE, message) for message in messages[:-1]]
    with pytest.raises(techo.EchoMismatch):
        next(arriving)


@given(dialogues(), st.data())
def test_over_a_stream_the_end_comes_midway_or_between_two(
    dialogue: Dialogue, data: st.DataObject
) -> None:
    """Midway is from the first byte of a reply, be it a stamp's, until the last."""
    cut = data.draw(st.integers(0, dialogue.ends[-1]))
    in_order = InOrder[Message]()
    for message in dialogue.messages:
        in_order.expect(message)
    for offset in range(cut):
        list(in_order.feed(dialogue.reply[offset : offset + 1]))
    assert in_order.midway is (cut not in (0, *dialogue.ends))
    with pytest.raises(techo.ShortReply) if in_order.owed else contextlib.nullcontext():
        in_order.feed(b"")


def test_over_a_stream_an_endless_run_stays_small() -> None:
    """Also one in which a reply is always owed, so that nothing is ever complete."""
    in_order, payloads = InOrder[Message](), Payloads(1000, NONCE)
    message = Message(payloads.make(1, 1000))
    in_order.expect(message)
    kept = []
    for number in range(2, 1000):
        following = Message(payloads.make(number, 1000))
        in_order.expect(following)
        assert list(in_order.feed(STAMP + message.payload)) == [(State.WHOLE, message)]
        message = following
        comparison = in_order._comparison
        assert comparison is not None
        kept.append(len(comparison.reply) + len(comparison._sent))
    assert in_order.owed == 1
    assert max(kept) < 2**18


class Fate(enum.Enum):
    """What becomes of a message that is kept apart."""

    WHOLE = enum.auto()
    TWICE = enum.auto()
    LOST = enum.auto()
    LATE = enum.auto()
    LATE_TWICE = enum.auto()
    CUT = enum.auto()
    CUT_LATE = enum.auto()
    ALTERED = enum.auto()
    ALTERED_TWICE = enum.auto()
    ALTERED_LATE = enum.auto()


GIVEN_UP = {Fate.LOST, Fate.LATE, Fate.LATE_TWICE, Fate.CUT_LATE, Fate.ALTERED_LATE}
"""Those that are waited for no more before anything comes back."""

TOLD: dict[Fate, list[State | None]] = {
    Fate.WHOLE: [State.WHOLE],
    Fate.TWICE: [State.WHOLE, State.AGAIN],
    Fate.LOST: [],
    Fate.LATE: [State.AGAIN],
    Fate.LATE_TWICE: [State.AGAIN, State.AGAIN],
    Fate.CUT: [State.SHORT],
    Fate.CUT_LATE: [None],
    Fate.ALTERED: [State.CORRUPT],
    Fate.ALTERED_TWICE: [State.CORRUPT, None],
    Fate.ALTERED_LATE: [None],
}
"""What is told of each copy; None where it was harmed, and is none that is waited for."""


@st.composite
def exchanges(
    draw: st.DrawFn,
) -> tuple[list[tuple[Message, Fate]], list[tuple[Message, bytes]]]:
    """Messages with what becomes of them, and all that comes back, in any order."""
    messages = messages_of(draw(st.lists(st.integers(32, 90), min_size=1, max_size=8)))
    fates = [(message, draw(st.sampled_from(Fate))) for message in messages]
    replies = []
    for message, fate in fates:
        payload = message.payload
        if "CUT" in fate.name:
            # With less than its number nobody could tell whose it is.
            payload = payload[: draw(st.integers(8, len(payload) - 1))]
        if "ALTERED" in fate.name:
            places = draw(st.sets(st.integers(16, len(payload) - 1), min_size=1, max_size=4))
            payload = bytes(
                byte ^ (0xFF if place in places else 0) for place, byte in enumerate(payload)
            )
        stamp = draw(st.sampled_from([b"", STAMP]))
        replies += [(message, stamp + payload)] * len(TOLD[fate])
    return fates, draw(st.permutations(replies))


@given(exchanges())
def test_kept_apart_each_is_told_as_what_it_has_become(
    exchange: tuple[list[tuple[Message, Fate]], list[tuple[Message, bytes]]],
) -> None:
    """With a stamp or without, in any order; and what comes of one harms no other."""
    fates, replies = exchange
    one_by_one = apart()
    for message, fate in fates:
        one_by_one.expect(message)
        if fate in GIVEN_UP:
            one_by_one.give_up(message)
    expected = {message: iter(TOLD[fate]) for message, fate in fates}
    for message, reply in replies:
        state = next(expected[message])
        told = (State.STRAY, None) if state is None else (state, message)
        assert list(one_by_one.feed(reply)) == [told]
    assert not one_by_one._waiting


FOREIGN = [
    b"x",
    b"what is this?",
    bytes(range(255)),
    STAMP + b"x",
    Payloads(64, bytes(8)).make(1, 64),  # of another run, with the same number
]


@pytest.mark.parametrize("waiting", [0, 1, 5])
@pytest.mark.parametrize("foreign", FOREIGN)
def test_kept_apart_what_resembles_nothing_belongs_to_nobody(
    foreign: bytes, waiting: int
) -> None:
    """And those that wait go on waiting."""
    one_by_one, messages = apart(), messages_of([64] * 5)[:waiting]
    for message in messages:
        one_by_one.expect(message)
    assert list(one_by_one.feed(foreign)) == [(State.STRAY, None)]
    for message in messages:
        assert list(one_by_one.feed(message.payload)) == [(State.WHOLE, message)]


@pytest.mark.parametrize("nothing", [b"", STAMP, STAMP[:10]])
def test_kept_apart_nothing_at_all_harms_none(nothing: bytes) -> None:
    """An empty message, or a stamp with nothing behind it, shows nobody whose it is."""
    one_by_one, messages = apart(), messages_of([64, 64])
    for message in messages:
        one_by_one.expect(message)
    for message in messages:
        assert list(one_by_one.feed(nothing)) == [(State.STRAY, None)]
        assert list(one_by_one.feed(message.payload)) == [(State.WHOLE, message)]


def test_kept_apart_a_stamp_may_be_altered_too() -> None:
    """The message behind it is found all the same."""
    one_by_one, (message,) = apart(), messages_of([64])
    one_by_one.expect(message)
    altered = b"?" + STAMP[1:] + b"?" + message.payload[1:]
    assert list(one_by_one.feed(altered)) == [(State.CORRUPT, message)]


@pytest.mark.parametrize("size", range(1, 17))
def test_kept_apart_the_smallest_are_known_by_what_fits(size: int) -> None:
    """Even a single byte tells the last few hundred apart."""
    one_by_one = apart()
    first, *messages = messages_of([size] * 250)
    one_by_one.expect(first)
    for message in messages:
        one_by_one.expect(message)
        assert list(one_by_one.feed(message.payload)) == [(State.WHOLE, message)]
        assert list(one_by_one.feed(message.payload)) == [(State.AGAIN, message)]
    assert list(one_by_one.feed(first.payload)) == [(State.WHOLE, first)]


@pytest.mark.parametrize("lost", [(), (0,), (1,), (0, 2)])
def test_kept_apart_of_doubles_the_oldest_is_answered(lost: tuple[int, ...]) -> None:
    """Those that were given up are waited for no more; nobody is forgotten."""
    one_by_one, doubles = apart(), [Message(b"x") for _ in range(4)]
    for each in doubles:
        one_by_one.expect(each)
    for number in lost:
        one_by_one.give_up(doubles[number])
    for number in sorted({0, 1, 2, 3}.difference(lost)):
        assert list(one_by_one.feed(b"x")) == [(State.WHOLE, doubles[number])]
    assert not one_by_one._waiting
    assert not any(one_by_one._doubles.values())


def test_kept_apart_giving_up_one_is_not_giving_up_its_double() -> None:
    """Of one byte there are no more than 256 different ones."""
    one_by_one, (first, second) = apart(), (Message(b"x"), Message(b"x"))
    one_by_one.expect(first)
    one_by_one.expect(second)
    one_by_one.give_up(first)
    assert list(one_by_one.feed(b"x")) == [(State.WHOLE, second)]


@pytest.mark.parametrize(("size", "count"), [(1, 1000), (17, 12_000), (65_507, 400)])
def test_kept_apart_an_endless_run_stays_small(size: int, count: int) -> None:
    """What is over is remembered for a while: so many messages, and so many bytes."""
    payloads = Payloads(size, NONCE)
    one_by_one = OneByOne[Message](payloads)
    for number in range(1, count):
        message = Message(payloads.make(number, size))
        one_by_one.expect(message)
        if number % 2:
            one_by_one.give_up(message)
        else:
            assert list(one_by_one.feed(message.payload)) == [(State.WHOLE, message)]
    assert not one_by_one._waiting
    for over in (one_by_one._lost, one_by_one._answered):
        remembered = [each.payload for each in over.messages.values()]
        assert 15 <= len(remembered) <= matching._REMEMBERED
        assert sum(map(len, remembered)) == over.size <= 2**20
    assert list(one_by_one.feed(message.payload)) == [(State.AGAIN, message)]


def test_kept_apart_many_answers_do_not_push_out_what_may_come_late() -> None:
    """What was given up long ago in messages, if not in time, is still recognised."""
    one_by_one = apart()
    lost, *messages = messages_of([64] * 5000)
    one_by_one.expect(lost)
    one_by_one.give_up(lost)
    for message in messages:
        one_by_one.expect(message)
        one_by_one.feed(message.payload)
    assert list(one_by_one.feed(lost.payload)) == [(State.AGAIN, lost)]


@pytest.mark.parametrize("stamp", [b"", STAMP])
def test_kept_apart_what_is_forgotten_is_not_taken_for_harm(stamp: bytes) -> None:
    """Not for its own, nor for that of one which waits and has the same pattern in it."""
    one_by_one = apart()
    *over, waiting = messages_of([64] * 1022)
    for message in [*over, *messages_of([64] * 4000)[1022:]]:
        one_by_one.expect(message)
        one_by_one.give_up(message)
    one_by_one.expect(waiting)
    assert waiting.payload[16:] == over[0].payload[16:]
    assert list(one_by_one.feed(stamp + over[0].payload)) == [(State.FORGOTTEN, None)]
    harmed = over[1].payload[:-1] + b"?"
    assert list(one_by_one.feed(stamp + harmed)) == [(State.STRAY, None)]
    assert list(one_by_one.feed(stamp + waiting.payload)) == [(State.WHOLE, waiting)]


@pytest.mark.parametrize("at", [2, 5, 7, 8, 15])
@pytest.mark.parametrize("size", [16, 17, 64])
def test_kept_apart_a_number_that_was_never_sent_is_harm(size: int, at: int) -> None:
    """Even where a message is nothing but its number and the nonce."""
    one_by_one, (message,) = apart(), messages_of([size])
    one_by_one.expect(message)
    harmed = bytearray(message.payload)
    harmed[at] ^= 0x80
    assert list(one_by_one.feed(harmed)) == [(State.CORRUPT, message)]


@pytest.mark.parametrize("number", [1, 1000])
def test_a_payload_that_was_made_is_known_whole(number: int) -> None:
    """Of sizes that there are, and of numbers that there were."""
    payloads = Payloads(64, NONCE, least=64)
    assert not payloads.made(payloads._payload(number, 64))
    payload = payloads.make(number, 64)
    assert payloads.made(payload)
    assert not payloads.made(payload[:-1])
    assert not payloads.made(payload[:-1] + b"?")
    assert not payloads.made(Payloads(64, bytes(8)).make(number, 64))
