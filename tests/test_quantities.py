"""Quantities: what is written is read back, and what looks alike is told apart."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import call
from techo._cli.commands import COMMANDS
from techo._quantities import (
    HELP,
    read_nanoseconds,
    read_number,
    read_percent,
    read_rate,
    read_seconds,
    read_share,
    read_size,
    read_sizes,
    write_seconds,
    write_share,
    write_size,
)

UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 10**3),
    "s": Fraction(1),
    "": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
NUMBERS = st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,6})?|\.[0-9]{1,6}", fullmatch=True)


@given(st.floats(0, 1e17) | st.integers(0, 10**7).map(lambda n: 60.0 * n))
def test_a_time_is_read_back_as_it_was(seconds: float) -> None:
    """Every time that is written gives the same float, to the last bit."""
    assert read_seconds(write_seconds(seconds)) == seconds


@given(st.integers(0, 2**60) | st.integers(0, 2**20).map(lambda n: n * 2**20))
def test_a_size_is_read_back_as_it_was(size: int) -> None:
    """Every size that is written gives the same number of bytes."""
    assert read_size(write_size(size)) == size


@given(st.floats(0, 1))
def test_a_share_is_read_back_as_it_was(share: float) -> None:
    """Every share that is written gives the same float, to the last bit."""
    assert read_share(write_share(share)) == share


@given(NUMBERS, st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_a_time_is_what_exact_arithmetic_says(number: str, unit: str, blank: str) -> None:
    """Seconds and nanoseconds are the floats next to the true value."""
    exact = Fraction(f"0{number}") * UNITS[unit]
    for read, wanted in ((read_seconds, exact), (read_nanoseconds, exact * 10**9)):
        assert read(number + blank + unit) == float(wanted)


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (write_seconds, 0.0, "0s"),
        (write_seconds, 0.5, "500ms"),
        (write_seconds, 0.0025, "2.5ms"),
        (write_seconds, 1e-7, "100ns"),
        (write_seconds, 60.0, "60s"),
        (write_seconds, 5400.0, "90m"),
        (write_seconds, 3600.0, "1h"),
        (write_seconds, math.inf, "off"),
        (write_size, 0, "0"),
        (write_size, 1000, "1000"),
        (write_size, 65536, "64k"),
        (write_size, 3 * 2**20, "3M"),
        (write_size, 2**30, "1G"),
        (write_share, 0.07, "7%"),
        (write_share, 0.0, "0%"),
        (write_share, 1.0, "100%"),
        (write_share, 0.001, "0.1%"),
    ],
)
def test_a_value_is_written_as_people_write_it(
    write: Callable[[Any], str], value: float, text: str
) -> None:
    """Units are the largest that leave a short number."""
    assert write(value) == text


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (read_seconds, "5", 5.0),
        (read_seconds, "5µs", 5e-6),
        (read_seconds, "5μs", 5e-6),
        (read_seconds, " 1e3ms ", 1.0),
        (read_seconds, ".5", 0.5),
        (read_nanoseconds, "3ns", 3.0),
        (read_nanoseconds, "1m", 6e10),
        (read_size, "64k", 65536),
        (read_size, "64K", 65536),
        (read_size, "1.5M", 3 * 2**19),
        (read_size, "1e3", 1000),
        (read_sizes, "1k", 1024),
        (read_sizes, "1k-64k/1k", range(1024, 65537, 1024)),
        (read_sizes, "1-1k", range(1, 1025)),
        (read_share, "1%", 0.01),
        (read_percent, "0.1 %", 0.1),
        (read_rate, "100/s", 100.0),
        (read_number, "1e3", 1000.0),
    ],
)
def test_a_value_is_read(read: Callable[[str], object], text: str, value: object) -> None:
    """Blanks around it and before the unit make no difference."""
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "reason"),
    [
        (read_seconds, "1M", "M is for sizes, and a minute is 1m"),
        (read_seconds, "5MS", "write 5ms"),
        (read_seconds, "1.5H", "write 1.5h"),
        (read_seconds, "5 min", "write 5m"),
        (read_seconds, "2secs", "write 2s"),
        (read_seconds, "1d", "the units are ns, us, ms, s, m and h"),
        (read_seconds, "64k", "the units are ns, us, ms, s, m and h"),
        (read_seconds, "1e400", "too large"),
        (read_seconds, "", "a time, such as 500ms, 2s or 1m"),
        (read_seconds, ".", "a time, such as"),
        (read_seconds, "-5", "a time, such as"),
        (read_seconds, "1_000", "a time, such as"),
        (read_seconds, "٣", "a time, such as"),
        (read_seconds, "nan", "a time, such as"),
        (read_size, "1m", "m is a minute, and times 1,024 x 1,024 is 1M"),
        (read_size, "2g", "write 2G"),
        (read_size, "64KiB", "write 64k, which is times 1,024"),
        (read_size, "64kB", "write 64k, which is times 1,024"),
        (read_size, "5bytes", "write 5"),
        (read_size, "5s", "the units are k, M and G"),
        (read_size, "0.3k", "a whole number of bytes"),
        (read_size, "1e99", "too large"),
        (read_size, "9" * 300, "too large"),
        (read_seconds, "9" * 5000, "a time, such as"),
        (read_size, "-1", "a size, such as 1000, 64k or 1M"),
        (read_sizes, "9-1", "a range of sizes, such as 1-1400 or 1k-64k/1k; write the least"),
        (read_sizes, "1-9/0", "its step is 0"),
        (read_sizes, "1-x", "'x' is not a size"),
        (read_sizes, "5/2", "a range of sizes"),
        (read_share, "0.5", "a share, such as 1%; write 50% or 0.5%"),
        (read_share, "1", "write 100% or 1%"),
        (read_share, "5", "write 5%"),
        (read_share, "5k", "a share, such as 1%"),
        (read_percent, "1e400%", "too large"),
        (read_rate, "10k", "a rate, such as 1000 or 1000/s"),
        (read_number, "5ms", "write 5: there is no unit here"),
    ],
)
def test_what_is_none_is_named_with_the_remedy(
    read: Callable[[str], object], text: str, reason: str
) -> None:
    """The error quotes the value as it was given, and says what would be right."""
    with pytest.raises(ValueError, match=r"^'") as caught:
        read(text)
    assert str(caught.value).startswith(f"'{text}' is ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_how_values_are_written(name: str) -> None:
    """Each command's help explains the words that it uses, and no others."""
    command = importlib.import_module(f"techo._cli.{name}").COMMAND
    words = {each.form.metavar for each in command.all_options if each.form is not None}
    words |= {"SHARE"} if name in {"serve", "proxy"} else set()
    text = " ".join(call(name, "--help")[1].decode().split())
    for word, sentence in HELP.items():
        assert (sentence in text) == (word in words)
