"""Counts in a history: what is written is read back, and few bytes."""

from __future__ import annotations

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._watch.coarse import Coarse
from techo._watch.counts import Counts
from techo._watch.history_encoding import decode, decode_coarse, encode

_NUMBERS = st.integers(0, 3) | st.integers(-(2**20), 2**40)
_NATURALS = st.integers(0, 2**70)
_BUCKETS = st.dictionaries(
    st.integers(0, 3500) | st.integers(900, 960), st.integers(1, 3) | st.integers(1, 2**40)
)


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    """Counts as watching makes them, and many that it never would."""
    buckets = collections.Counter(draw(_BUCKETS))
    figures = (draw(_NATURALS) for _ in range(3))
    return Counts(
        Histogram(buckets, buckets.total(), *figures),
        collections.Counter(draw(st.dictionaries(st.sampled_from(FailureCause), _NUMBERS))),
        draw(_NUMBERS),
        draw(_NUMBERS),
        draw(_NUMBERS),
        draw(_NUMBERS),
        draw(st.just(0.0) | st.floats(0, 1e9)),
    )


@given(counts())
def test_counts_are_read_back_exactly(found: Counts) -> None:
    """Every field is the same, and so is what comes of adding to it."""
    read = decode(encode(found))
    assert read == found
    assert decode_coarse(encode(found)) == Coarse.of(found)
    read.add(found)
    found.add(found.copy())
    assert read == found


@pytest.mark.parametrize("cut", [0, 1, 5, 9, 20, -1])
def test_what_was_cut_is_refused(cut: int) -> None:
    """A row that lost its end is no smaller number of probes."""
    whole = Counts(Histogram.of(range(1000, 90_000, 1000)), down_seconds=1.5)
    whole.failures[FailureCause.REFUSED] = 7
    data = encode(whole)
    with pytest.raises(ValueError, match="counts"):
        decode(data[:cut])
    with pytest.raises(ValueError, match="counts"):
        decode_coarse(data[:cut])
    with pytest.raises(ValueError, match="not those of their buckets"):
        decode(data + b"\0")


def test_a_minute_an_hour_and_a_day_are_small() -> None:
    """What the chapter says of the size holds, over a network and in the worst of cases."""
    source = random.Random(1)  # noqa: S311  -- no secret

    def size_of(probes: int, spread: float) -> int:
        times = (int(10**6 * 10 ** source.gauss(0, spread)) for _ in range(probes))
        return len(encode(Counts(Histogram.of(times))))

    assert size_of(60, 0.1) < 150
    assert size_of(3600, 0.1) < 450
    assert size_of(86_400, 0.1) < 800
    assert size_of(60, 1.0) < 200
    assert size_of(3600, 1.0) < 2700
