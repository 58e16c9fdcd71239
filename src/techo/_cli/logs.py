"""Logs: where log lines go, what they look like, and which are left out."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from techo._cli.backlog import PIECE_IN_A_CROWD, Backlog
from techo._cli.output import is_journal, print_error
from techo._printable import printable
from techo._schema import SCHEMA

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
}
"""What every log record has; everything else in one is a fact about the event."""


_UNITS: Final = {"bytes_in": "received_bytes", "bytes_out": "sent_bytes"}
"""What the server counts, with its name in JSON, whose end is the unit."""

_PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.NOTSET: 7,
}
"""syslog(3)'s numbers, by the level from which they count."""


def with_units(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts, and what is in them, under the names that they have in JSON."""
    return {
        _UNITS.get(name, name): with_units(value) if isinstance(value, Mapping) else value
        for name, value in facts.items()
    }


class JsonFormatter(logging.Formatter):
    """One JSON object per line: schema, time (UTC), level, event and the event's facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one record as a line, its traceback as the field ``traceback``."""
        when = datetime.fromtimestamp(record.created, UTC)
        facts = {
            "schema": SCHEMA,
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "message",
            **with_units(
                {name: each for name, each in vars(record).items() if name not in _STANDARD}
            ),
        }
        if facts["event"] == "message" or record.levelno >= logging.WARNING:
            facts["message"] = record.getMessage()
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts)


class TextFormatter(logging.Formatter):
    """One line for people, in which what a peer could make of it is escaped.

    It ends in what it is about, where the record says that and its text does not.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  -- logging's own
        """Return the line, which a traceback may follow."""
        line = super().formatMessage(record)
        for name in ("id", "endpoint", "worker"):
            about = f" {name}={vars(record).get(name, '')}"
            if not about.endswith("=") and about not in line:
                line += about
        return printable(line)

    def formatException(self, ei: Any) -> str:  # noqa: N802  -- likewise
        """Return the traceback, whose lines may show what a peer has sent."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class JournalFormatter(logging.Formatter):
    """Puts before each line the priority that journalctl -p filters by: see sd-daemon(3)."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, of a traceback too."""
        lines = self._formatter.format(record).split("\n")
        level = next(level for level in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{_PRIORITIES[level]}>{line}" for line in lines)


class BacklogHandler(logging.Handler):
    """Sends records to standard error, for which nobody waits."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker
        self._backlog = Backlog(sys.stderr, self._dropped)
        if worker is not None:
            self._backlog.piece = PIECE_IN_A_CROWD

    def emit(self, record: logging.LogRecord) -> None:
        """Have one record written as a line."""
        if self._worker is not None:
            record.worker = self._worker
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001  -- whatever the values of a record do
            line = f"a line that cannot be written: {error!r}"
        self._backlog.write(line)

    def tell(self, text: str) -> None:
        """Write a line for who sits at the terminal, if somebody does; it is no record."""
        if isinstance(self.formatter, TextFormatter) and sys.stderr.isatty():
            self._backlog.write(text)

    def _dropped(self, count: int) -> str:
        fact = {"name": "techo.server", "levelno": logging.WARNING, "levelname": "WARNING"}
        fact["msg"] = f"{count} lines of the log are missing here: nobody read them in time"
        return self.format(logging.makeLogRecord(fact))

    def close(self) -> None:
        """Wait for what is not written yet, as long as somebody reads."""
        self._backlog.close()
        super().close()


class LineHandler(logging.Handler):
    """Prints what is wrong as commands do that have no log: in one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, and its traceback if it has one."""
        first, *rest = self.format(record).split("\n")
        print_error(f"techo: {first}")
        for line in rest:
            print_error(line)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Print warnings and errors for a block, each in a line on standard error."""
    handler, logger = LineHandler(logging.WARNING), logging.getLogger("techo")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def configure(
    *, quiet: bool, verbose: bool, log_format: str, worker: int | None = None
) -> BacklogHandler:
    """Send the log to standard error; return the handler, which the caller closes.

    Of one of several workers, each line has its number.
    """
    handler = BacklogHandler(worker)
    # The journal has its own time and, before each line, the level.
    journal = is_journal()
    shown = "%(message)s" if journal else "%(asctime)s %(levelname)s %(message)s"
    formatter = JsonFormatter() if log_format == "json" else TextFormatter(shown)
    handler.setFormatter(JournalFormatter(formatter) if journal else formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("techo").setLevel(level)
    return handler
