"""Rules: what makes a target degraded, written as ping's are."""

from __future__ import annotations

import math
from typing import Final

import attrs

from techo._probing.failure_cause import FailureCause
from techo._rules import WATCH, Rule
from techo._watch.counts import Counts

_CERTIFICATE: Final = "certificate_days"

_ROUNDING: Final = 1e-9
"""What a share of a whole number may lack as a binary fraction."""


@attrs.frozen
class FigureRule:
    """A rule about the counts of the last minute or so; `parse_rule` makes it.

    Unlike ping's, it does not fire for lack of samples: there will be more soon. A percentile
    is that of however few there are, so that p99>5ms fires when more than one in a hundred
    was slower or lost.
    """

    rule: Rule

    @property
    def text(self) -> str:
        """As it was given."""
        return self.rule.text

    def judge(self, counts: Counts, certificate_days: float | None = None) -> str | None:
        """Return what was found if it fires."""
        name = self.rule.name
        found = certificate_days if name == _CERTIFICATE else _figure(name, counts)
        return None if found is None else self.rule.judge({name: found})


def parse_rule(text: str) -> FigureRule:
    """Read a rule such as ``p99>5ms``.

    Raises:
        ValueError: it is none; the text names the rule and the position.
    """
    return FigureRule(Rule.parse(text, WATCH))


def _figure(name: str, counts: Counts) -> float | None:
    """Return one figure, in nanoseconds or per cent; None while there is none."""
    if name in _COUNTED:
        return float(getattr(counts, name))
    if name == "failures":
        return counts.lost
    if name in _CAUSES:
        return counts.failures.get(FailureCause(name), 0)
    if name == "mean":
        return counts.latency.mean
    if name in {"min", "max"}:
        return float(getattr(counts.latency, name)) if counts.received else None
    return _percentile(float(name.removeprefix("p")), counts) if name != "loss" else counts.loss


def _percentile(percent: float, counts: Counts) -> float | None:
    """Return the duration of the nearest rank, however few there are."""
    lost = counts.lost
    if not counts.received + lost:
        return None
    least = percent / 100 - _ROUNDING
    curve = counts.latency.curve(lost=lost)
    return next((duration for share, duration in curve if share >= least), math.inf)


_COUNTED: Final = frozenset({"received", "lost", "late", "duplicate", "stray", "corrupt"})
"""The figures that counts have under the same name. Not every corrupt reply costs a probe."""

_CAUSES: Final = frozenset(map(str, FailureCause))
