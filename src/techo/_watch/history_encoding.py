"""Counts as a history keeps them: bytes that are few, and read back exactly.

Small numbers are LEB128 (as in DWARF), those that can be negative zigzag before. A histogram is
the distance from one bucket to the next, and how many are in each. Both are in the narrowest of
1, 2, 4 or 8 bytes that takes all, so that a day is read without a loop over its buckets.
"""

from __future__ import annotations

import collections
import itertools
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import attrs

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import COARSE, Histogram
from techo._watch.coarse import Coarse
from techo._watch.counts import Counts

_TYPES: Final = "BHIQ"
"""What struct calls natural numbers of 1, 2, 4 and 8 bytes."""

_DOWN: Final = 0x10
"""In the first byte: it was down for a while. The lowest two bits are the width of distances,
the next two that of amounts."""

_DOWN_SECONDS: Final = struct.Struct("<d")

_SEVEN: Final = re.compile(rb"(?:[\x80-\xff]*[\x00-\x7f]){7}")
"""So many numbers, which are found in a tenth of the time that it takes to read them."""

_T = TypeVar("_T")


def encode(counts: Counts) -> bytes:
    """Return counts as bytes, which `decode` reads."""
    latency = counts.latency
    buckets = sorted(bucket for bucket, count in latency.buckets.items() if count)
    steps = [after - before for before, after in itertools.pairwise([0, *buckets])]
    amounts = [latency.buckets[bucket] for bucket in buckets]
    step_width, amount_width = _width_of(steps), _width_of(amounts)
    failures = [(str(cause).encode(), n) for cause, n in counts.failures.items() if n]
    data = bytearray([step_width | amount_width << 2 | _DOWN * bool(counts.down_seconds)])
    if counts.down_seconds:
        data += _DOWN_SECONDS.pack(counts.down_seconds)
    others = counts.late, counts.duplicate, counts.corrupt, counts.stray
    for number in (latency.sum, latency.min, latency.max, *map(_zigzag, others)):
        _write(data, number)
    _write(data, len(failures))
    for name, amount in failures:
        _write(data, len(name))
        data += name
        _write(data, _zigzag(amount))
    _write(data, len(buckets))
    data += _packed(steps, step_width)
    data += _packed(amounts, amount_width)
    return bytes(data)


def decode(data: bytes) -> Counts:
    """Read back what `encode` returned.

    Raises:
        ValueError: it is something else.
    """
    return _checked(_decode, data)


def decode_coarse(data: bytes) -> Coarse:
    """Read back what a strip shows, and no more.

    Raises:
        ValueError: it is something else.
    """
    return _checked(_decode_coarse, data)


def _checked(read: Callable[[bytes], _T], data: bytes) -> _T:
    try:
        return read(data)
    except (IndexError, struct.error) as error:
        raise ValueError(f"counts end too early: {data[:60].hex()}") from error


@attrs.define
class _Parts:
    """Counts as they are in bytes."""

    down: float
    numbers: bytes
    """Sum, least and most of the durations, and what is late, duplicate, corrupt, stray."""
    failures: list[tuple[bytes, int]]
    steps: Sequence[int]
    amounts: Sequence[int]

    def buckets(self) -> Iterator[int]:
        """Yield the numbers of the buckets, rising."""
        return itertools.accumulate(self.steps)


def _decode(data: bytes) -> Counts:
    parts = _parts_of(data)
    failures = collections.Counter[FailureCause]()
    for name, amount in parts.failures:
        failures[FailureCause(name.decode())] = amount
    found = collections.Counter(dict(zip(parts.buckets(), parts.amounts, strict=True)))
    numbers, at = list[int](), 0
    while at < len(parts.numbers):
        number, at = _read(parts.numbers, at)
        numbers.append(number)
    latency = Histogram(found, found.total(), *numbers[:3])
    late, duplicate, corrupt, stray = map(_unzigzag, numbers[3:])
    return Counts(latency, failures, late, duplicate, corrupt, stray, parts.down)


def _decode_coarse(data: bytes) -> Coarse:
    parts = _parts_of(data)
    found, last, count, received = dict[int, int](), -1, 0, 0
    for bucket, amount in zip(parts.buckets(), parts.amounts, strict=True):
        if bucket >> COARSE != last:  # they rise, so that each coarse one is met once
            found[last] = count
            received += count
            last, count = bucket >> COARSE, 0
        count += amount
    found[last] = count
    found.pop(-1)
    lost = sum(amount for _, amount in parts.failures)
    return Coarse(received + count, lost, parts.down, found)


def _parts_of(data: bytes) -> _Parts:
    shape, at, down = data[0], 1, 0.0
    if shape & _DOWN:
        (down,) = _DOWN_SECONDS.unpack_from(data, at)
        at += _DOWN_SECONDS.size
    numbers = _SEVEN.match(data, at)
    if numbers is None:
        raise IndexError
    causes, at = _read(data, numbers.end())
    failures = list[tuple[bytes, int]]()
    for _ in range(causes):
        length, at = _read(data, at)
        name = data[at : at + length]
        amount, at = _read(data, at + length)
        failures.append((name, _unzigzag(amount)))
    length, at = _read(data, at)
    middle = at + (length << (shape & 3))
    if middle + (length << (shape >> 2 & 3)) != len(data):
        raise ValueError(f"counts have {len(data)} bytes, which are not those of their buckets")
    steps = _unpacked(data[at:middle], shape & 3)
    amounts = _unpacked(data[middle:], shape >> 2 & 3)
    return _Parts(down, numbers[0], failures, steps, amounts)


def _width_of(numbers: Sequence[int]) -> int:
    bits = max(numbers, default=0).bit_length()
    return max(bits - 1, 0).bit_length() - 3 if bits > 8 else 0  # noqa: PLR2004  -- of a byte


def _packed(numbers: Sequence[int], width: int) -> bytes:
    return struct.pack(f"<{len(numbers)}{_TYPES[width]}", *numbers) if width else bytes(numbers)


def _unpacked(data: bytes, width: int) -> Sequence[int]:
    # Bytes are numbers already, and most have no others.
    return struct.unpack(f"<{len(data) >> width}{_TYPES[width]}", data) if width else data


def _zigzag(number: int) -> int:
    return 2 * number if number >= 0 else -2 * number - 1


def _unzigzag(number: int) -> int:
    return -(number + 1) // 2 if number & 1 else number // 2


def _write(data: bytearray, number: int) -> None:
    while number >= 0x80:  # noqa: PLR2004  -- seven bits a byte, and whether more follow
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)


def _read(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position behind it."""
    number, shift = 0, 0
    while (byte := data[at]) & 0x80:
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | byte << shift, at + 1
