"""`nox -s bench`: measure, and print one table.

Exit status: 0 when every target was reached, 1 when one was not, 2 when it cannot be measured.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import tempfile
from pathlib import Path

from bench import measure, programs, progress, report, rows


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s bench --",
        description="Measure what techo costs, compare it with others, print a table.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows:\n" + "\n".join(f"  {row.name:10} {row.work}" for row in rows.ROWS),
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="what to measure (default: all)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=9,
        metavar="COUNT",
        help="turns of each server, or client, in each row (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.0,
        help="length of a turn, in s; some rows take longer ones (default: %(default)g s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the raw figures there")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.svg", help="draw the ratios (or .png, .pdf)"
    )
    found = parser.parse_args()
    if found.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if not 0 < found.seconds <= 600:
        parser.error("--seconds must be more than 0 s and at most 600 s")
    try:
        found.rows = rows.chosen(found.rows)
    except ValueError as error:
        parser.error(str(error))
    return found


def run(wanted: argparse.Namespace) -> report.Report:
    """Measure one row after the other."""
    effort = measure.Effort(wanted.rounds, wanted.seconds)
    result = report.Report(effort)
    turns = sum(len(programs.present(row)) for row in wanted.rows) * effort.rounds
    with tempfile.TemporaryDirectory() as folder:
        compiled = programs.compile_all(Path(folder))
        with progress.shown(turns) as (show, advance):
            for number, row in enumerate(wanted.rows, 1):
                contenders = ", ".join(programs.present(row))
                show(f"row {number} of {len(wanted.rows)}: {row.name} ({contenders})")
                try:
                    result.add(row, measure.measure(compiled, row, effort, advance))
                except measure.TurnError as error:
                    result.failures.append(f"{row.name}: {error}")
    return result


def main() -> int:
    """Run the benchmark; give the exit status."""
    wanted = options()
    # Whoever ends this ends the servers with it; and they inherit enough file descriptors.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        result = run(wanted)
        print(result.table())
        if wanted.json:
            result.write_json(wanted.json)
        if wanted.plot:
            report.write_plot(result, wanted.plot)
    except (programs.CannotMeasureError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if result.all_reached else 1


if __name__ == "__main__":
    sys.exit(main())
