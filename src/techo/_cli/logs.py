"""Logs: where log lines go, what they look like, and which are left out."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Final

from techo._validation import printable

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
}
"""What every log record has; everything else in one is a fact about the event."""

_SHORTAGE_PAUSE: Final = 60.0
"""Seconds between two lines about the same shortage."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time`` (UTC), ``level``, ``event`` and the event's facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one record as a line, its traceback as the field ``traceback``."""
        when = datetime.fromtimestamp(record.created, UTC)
        facts = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "message",
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
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


class ShortageFilter(logging.Filter):
    """Turns trio's ten tracebacks a second about accept() into one line a minute."""

    _last = -_SHORTAGE_PAUSE

    def filter(self, record: logging.LogRecord) -> bool:
        """Let one record a minute pass, rewritten to name the remedy."""
        now = time.monotonic()
        if now - self._last < _SHORTAGE_PAUSE:
            return False
        self._last = now
        record.msg = (
            f"cannot accept connections now: {record.getMessage()}; the others are served on. "
            "Raise the limit (ulimit -n) or lower --max-connections. Said once a minute."
        )
        record.args = ()
        record.exc_info = None
        return True


def configure(*, quiet: bool, verbose: bool, log_format: str) -> None:
    """Send the log to standard error."""
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("techo").setLevel(level)
    logging.getLogger("trio.serve_listeners").addFilter(ShortageFilter())
