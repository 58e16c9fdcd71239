"""Logs: where log lines go, what they look like, and which are left out."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from techo._cli.backlog import Backlog
from techo._schema import SCHEMA
from techo._validation import printable

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
}
"""What every log record has; everything else in one is a fact about the event."""


_UNITS: Final = {"bytes_in": "received_bytes", "bytes_out": "sent_bytes"}
"""What the server counts, with its name in JSON, whose end is the unit."""


def with_units(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts under the names that they have in JSON."""
    return {_UNITS.get(name, name): value for name, value in facts.items()}


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
        if facts["event"] == "message":
            facts["message"] = record.getMessage()
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts)


class TextFormatter(logging.Formatter):
    """One line for people, in which what a peer could make of it is escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  -- logging's own
        """Return the line, which a traceback may follow."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  -- likewise
        """Return the traceback, whose lines may show what a peer has sent."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class BacklogHandler(logging.Handler):
    """Sends records to standard error, for which nobody waits."""

    def __init__(self) -> None:
        super().__init__()
        self._backlog = Backlog(sys.stderr, self._dropped)

    def emit(self, record: logging.LogRecord) -> None:
        """Have one record written as a line."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001  -- whatever the values of a record do
            line = f"a line that cannot be written: {error!r}"
        self._backlog.write(line)

    def _dropped(self, count: int) -> str:
        fact = {"name": "techo.server", "levelno": logging.WARNING, "levelname": "WARNING"}
        fact["msg"] = f"{count} lines of the log are missing here: nobody read them in time"
        return self.format(logging.makeLogRecord(fact))

    def close(self) -> None:
        """Wait for what is not written yet, as long as somebody reads."""
        self._backlog.close()
        super().close()


def configure(*, quiet: bool, verbose: bool, log_format: str) -> logging.Handler:
    """Send the log to standard error; return the handler, which the caller closes."""
    handler = BacklogHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("techo").setLevel(level)
    return handler
