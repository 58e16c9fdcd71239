"""Verdicts: medians, paired ratios with their spread, and whether a target is reached."""

from __future__ import annotations

import statistics
from typing import Final

import attrs

from bench.measure import Turn
from bench.rows import Figure, Row

BUSY_LOAD: Final = 0.95
"""Share of its core from which on the load client is at its limit ..."""

IDLE: Final = 0.9
"""... and of its own, below which who is measured is not."""

WORSE_P99: Final = 1.05
"""Times a peer's p99 latency beyond which, in three of four rounds, it is no noise."""


@attrs.frozen
class Spread:
    """The median of some figures, and their quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Sum up figures, of which there must be one at least."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@attrs.frozen(kw_only=True)
class Line:
    """A line of the table: what one contender needed, and how the subject compares with it."""

    row: Row
    figure: Figure
    contender: str
    value: Spread
    p99: Spread | None
    """Latency, in µs."""
    ratio: Spread | None
    """Subject to this one, paired by rounds; None for the subject itself."""
    target: float | None
    reached: bool | None
    notes: tuple[str, ...]


def values(turns: list[Turn], key: str) -> list[float]:
    """Give one figure of all turns."""
    return [turn[key] for turn in turns if key in turn]


def compare(ours: list[Turn], theirs: list[Turn], key: str) -> Spread | None:
    """Give the ratios of what was measured in the same round."""
    pairs = zip(values(ours, key), values(theirs, key), strict=True)
    ratios = [mine / other for mine, other in pairs if other]
    return Spread.of(ratios) if ratios else None


def judge(row: Row, turns: dict[str, list[Turn]]) -> list[Line]:
    """Give the lines of a row, the subject's first."""
    return [judge_one(row, figure, name, turns) for figure in row.figures for name in turns]


def judge_one(row: Row, figure: Figure, name: str, turns: dict[str, list[Turn]]) -> Line:
    """Give one line."""
    value = Spread.of(values(turns[name], figure.key))
    own = name == row.subject
    ratio = None if own else compare(turns[row.subject], turns[name], figure.key)
    peer = None if own else name
    target = next((each.at_most for each in figure.targets if each.peer == peer), None)
    judged = value if own else ratio
    latencies = values(turns[name], "p99_us")
    return Line(
        row=row,
        figure=figure,
        contender=name,
        value=value,
        p99=Spread.of(latencies) if latencies else None,
        ratio=ratio,
        target=target,
        reached=None if target is None or judged is None else judged.median <= target,
        notes=tuple(notes(row, figure, name, turns)),
    )


def server_notes(turns: list[Turn]) -> list[str]:
    """Say whether a server was not given enough to do."""
    loads, own = values(turns, "load_share"), values(turns, "server_share")
    if loads and statistics.median(loads) > BUSY_LOAD and statistics.median(own) < IDLE:
        return ["the load client was the bottleneck"]
    return []


def client_notes(turns: list[Turn]) -> list[str]:
    """Say how much a client did, and whether it had to wait, which costs it more."""
    found, shares = list[str](), values(turns, "load_share")
    if messages := values(turns, "messages"):
        found.append(f"{statistics.median(messages):.0f} round trips a turn")
    if shares and (own := statistics.median(shares)) < IDLE:
        found.append(f"busy {own:.0%} of the time only")
    return found


def notes(row: Row, figure: Figure, name: str, turns: dict[str, list[Turn]]) -> list[str]:
    """Say what else must be known about a line."""
    found = client_notes(turns[name]) if row.server else server_notes(turns[name])
    if gone := sum(values(turns[name], "lost")):
        found.append(f"{gone:.0f} datagrams were lost")
    if samples := values(turns[name], "delay_samples"):
        found.append(f"{statistics.median(samples):.0f} samples a turn")
    rivals = {target.peer for target in figure.targets}
    if "uvloop" in name and name in rivals:
        p99 = compare(turns[row.subject], turns[name], "p99_us")
        if p99 and p99.low > WORSE_P99:
            found.append(
                f"our p99 is worse: {p99.median:.2f} ({p99.low:.2f} to {p99.high:.2f})"
            )
    return found
