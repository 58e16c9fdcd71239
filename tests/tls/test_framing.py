"""Framing: where records end, whatever the pieces are that they come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from techo._tls.framing import Framing


@given(
    bodies=st.lists(st.binary(max_size=40), max_size=6),
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=40),
)
def test_pieces_do_not_matter(bodies: list[bytes], cuts: list[int]) -> None:
    """Behind whole records a header is missing; who receives no more meets each end exactly."""
    records = [b"\x17\x03\x03" + len(body).to_bytes(2, "big") + body for body in bodies]
    stream, framing, start = b"".join(records), Framing(), 0
    for cut in cuts:
        framing.feed(stream[start : start + cut])
        start += cut
    framing.feed(stream[start:])
    assert framing.missing == 5
    taken, received, ends = Framing(), 0, []
    while received < len(stream):
        size = taken.missing
        taken.feed(memoryview(stream)[received : received + size])
        received += size
        ends.append(received)
    expected, end = [], 0
    for record in records:
        expected += [end + 5] + [end + len(record)] * (len(record) > 5)
        end += len(record)
    assert ends == expected
