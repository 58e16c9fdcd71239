"""The report: one table for people, one file of raw figures, one picture."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import ssl
from pathlib import Path
from typing import Any

import attrs

from bench import programs
from bench.measure import Effort, Turn, cores
from bench.rows import Row
from bench.verdicts import Line, Spread, judge

HEADINGS = ("work", "who", "figure", "p99 latency", "ours / peer", "target", "", "")


@attrs.define
class Report:
    """What was measured, row by row."""

    effort: Effort
    turns: dict[str, dict[str, list[Turn]]] = attrs.field(factory=dict)
    lines: list[Line] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    absent: set[str] = attrs.field(factory=set)

    def add(self, row: Row, turns: dict[str, list[Turn]]) -> None:
        """Enter a row that was measured."""
        self.turns[row.name] = turns
        self.lines += judge(row, turns)
        self.absent |= {name for name in row.contenders if name not in turns}

    @property
    def all_reached(self) -> bool:
        """Whether nothing failed and no target was missed."""
        return not self.failures and all(line.reached is not False for line in self.lines)

    def table(self) -> str:
        """Give the table, and below it what else must be known."""
        cells = [HEADINGS, *map(cells_of, self.lines)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
        rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
        rows.insert(1, "  ".join("-" * width for width in widths if width))
        for index in range(len(self.lines) - 1, 0, -1):
            if self.lines[index].figure is not self.lines[index - 1].figure:
                rows.insert(index + 2, "")
        return "\n".join([*rows, "", *self.remarks()])

    def remarks(self) -> list[str]:
        """Say how it was measured, and what was not."""
        place = "on a core each" if cores() else "NOT on cores of their own: there is only one"
        found = [
            f"Medians of {self.effort.rounds} rounds, {self.effort.seconds:g} s a turn.",
            f"Servers, or clients, take turns; server and client {place}.",
            "In rows workers, processes and page all share all cores.",
            "Ratios are of the same round, in brackets their quartiles.",
            ", ".join(f"{name} {version}" for name, version in environment().items()),
        ]
        if programs.peer_uses_slower_tls():
            found.append("aiofastnet does TLS the slower way: Python's OpenSSL is its own.")
        if self.absent:
            found.append(
                f"Not compared, because not installed: {', '.join(sorted(self.absent))}"
            )
        return found + [f"FAILED: {failure}" for failure in self.failures]

    def write_json(self, path: Path) -> None:
        """Keep the raw figures: every one of every turn."""
        content: dict[str, Any] = {
            "environment": environment(),
            "cores": cores(),
            "effort": attrs.asdict(self.effort),
            "rows": self.turns,
            "failures": self.failures,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def environment() -> dict[str, str]:
    """Give the versions of everything that matters."""
    found = {
        platform.system(): platform.release(),
        platform.python_implementation(): platform.python_version(),
        "cores": str(os.cpu_count()),
    }
    for name in ("techo", "trio", *programs.LIBRARIES):
        if importlib.util.find_spec(name):
            found[name] = importlib.metadata.version(name)
    found["OpenSSL"] = ssl.OPENSSL_VERSION.split()[1]
    return found


def number(value: float) -> str:
    """Give a figure with the three digits that it may be worth."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def ratio_text(spread: Spread) -> str:
    """Give a ratio with its spread."""
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def target_text(line: Line) -> str:
    """Give a target, with its unit where it is no ratio."""
    if line.target is None:
        return ""
    return f"<= {line.target:.2f}" + (f" {line.figure.unit}" if line.ratio is None else "")


def cells_of(line: Line) -> tuple[str, ...]:
    """Give the texts of a line of the table; a figure says what it is where it is ours."""
    ours = line.contender == line.row.subject
    first = line.figure is line.row.figures[0]
    work = f"{line.row.name}: {line.figure.meaning}" if first else line.figure.meaning
    return (
        work if ours else "",
        line.contender,
        f"{number(line.value.median)} {line.figure.unit}",
        f"{number(line.p99.median)} µs" if line.p99 else "",
        ratio_text(line.ratio) if line.ratio else "",
        target_text(line),
        "" if line.reached is None else "pass" if line.reached else "SHORT",
        "; ".join(line.notes),
    )


def write_plot(report: Report, path: Path) -> None:
    """Draw the ratios and the targets, one line for each comparison.

    Raises:
        programs.CannotMeasureError: matplotlib is not installed.
    """
    if not importlib.util.find_spec("matplotlib"):
        raise programs.CannotMeasureError("--plot needs matplotlib: pip install matplotlib")
    from matplotlib.figure import Figure  # noqa: PLC0415  -- a second that few runs need

    lines = [(line, line.ratio) for line in report.lines if line.ratio]
    figure = Figure(figsize=(9, 1.5 + 0.28 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for place, (line, ratio) in enumerate(lines):
        colour = {None: "tab:gray", True: "tab:green", False: "tab:red"}[line.reached]
        axes.plot([ratio.low, ratio.high], [place, place], color=colour, linewidth=3, alpha=0.5)
        axes.plot(ratio.median, place, "o", color=colour)
        if line.target is not None:
            axes.plot(line.target, place, "|", color="black", markersize=12)
    axes.axvline(1, color="black", linewidth=0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    labels = [f"{line.row.name}: {line.contender}" for line, _ in lines]
    axes.set_yticks(range(len(lines)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("ours / peer (median and quartiles); | the most it may be; less is better")
    axes.set_title("techo against its peers")
    figure.savefig(path)
