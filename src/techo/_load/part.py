"""Parts: what one process or machine had of a load that several have carried out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from techo._validation import AMOUNT, FLAG, NATURAL, TEXT, Requirement

if TYPE_CHECKING:
    from techo._load.report import LoadReport

_JSON_NAMES: Final = {
    "p50": "p50_ns",
    "p99": "p99_ns",
    "clock_offset": "clock_offset_seconds",
    "clock_error": "clock_error_seconds",
}
"""What has no unit in its name, with its name in JSON."""

_SECONDS: Final = Requirement(
    "a number of seconds",
    lambda value: type(value) in (int, float) and AMOUNT.missing(abs(value)) is None,
).or_off()


@attrs.frozen(kw_only=True)
class LoadPart:
    """What one process or machine had of a load.

    Raises:
        ValueError: a value makes no sense; the text names it.
    """

    name: str = attrs.field(validator=TEXT)
    """Which one it was."""
    received: int = attrs.field(validator=NATURAL)
    """Messages of which every byte came back."""
    lost: int = attrs.field(validator=NATURAL)
    """Messages that did not, or not in time."""
    unsent: int = attrs.field(validator=NATURAL)
    """Trips of its share that could not be sent; of one that died, all that is not reported."""
    p50: int | None = attrs.field(validator=NATURAL.or_off())
    """The median of the latency in nanoseconds; None if it is among the lost, or there are too
    few trips to tell."""
    p99: int | None = attrs.field(validator=NATURAL.or_off())
    """Likewise what 99 of 100 do not exceed."""
    client_cpu_percent: float | None = attrs.field(validator=AMOUNT.or_off())
    """What it used in per cent of one processor; None for too short a time to tell."""
    client_was_limit: bool = attrs.field(validator=FLAG)
    """Whether that was so much that another client might measure more."""
    died: str | None = attrs.field(default=None, validator=TEXT.or_off())
    """How it ended before it could report its end; None if it did not."""
    clock_offset: float | None = attrs.field(default=None, validator=_SECONDS)
    """Seconds by which the clock of its machine is ahead of ours; None if it is ours."""
    clock_error: float | None = attrs.field(default=None, validator=AMOUNT.or_off())
    """Seconds by which that may be wrong, and by which it may have begun too early or late."""

    @classmethod
    def of(
        cls,
        name: str,
        report: LoadReport,
        died: str | None = None,
        *,
        clock_offset: float | None = None,
        clock_error: float | None = None,
    ) -> LoadPart:
        """Return the row of a report."""
        return cls(
            name=name,
            received=report.received,
            lost=report.lost,
            unsent=report.unsent,
            p50=_known(report.percentile(50)),
            p99=_known(report.percentile(99)),
            client_cpu_percent=report.client_cpu_percent,
            client_was_limit=report.client_was_limit,
            died=died,
            clock_offset=clock_offset,
            clock_error=clock_error,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        fields = attrs.asdict(self)
        return {_JSON_NAMES.get(name, name): value for name, value in fields.items()}


_PARTS: Final = Requirement(
    "a list of parts, each with " + ", ".join(each.name for each in attrs.fields(LoadPart)),
    lambda value: isinstance(value, list | tuple) and all(map(_is_part, value)),
)


def _is_part(value: object) -> bool:
    names = {_JSON_NAMES.get(each.name, each.name) for each in attrs.fields(LoadPart)}
    return isinstance(value, LoadPart) or (isinstance(value, Mapping) and names.issubset(value))


def parts_of(parts: Any) -> Sequence[LoadPart]:
    """Return parts, as they are or read from JSON.

    Raises:
        ValueError: they are none.
    """
    _PARTS.check(parts=parts)
    return tuple(each if isinstance(each, LoadPart) else _read(each) for each in parts)


def _read(data: Mapping[str, Any]) -> LoadPart:
    return LoadPart(
        **{
            each.name: data[_JSON_NAMES.get(each.name, each.name)]
            for each in attrs.fields(LoadPart)
        }
    )


def _known(duration: float | None) -> int | None:
    return None if duration is None or duration == math.inf else int(duration)
