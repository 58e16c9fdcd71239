"""The file of a history: a database of SQLite with one writer, and readers beside it.

It is in WAL mode: readers do not stop the writer, and a process that is killed leaves behind
what it has committed. For the writers there is a second file, FILE.lock, itself a database and
empty: its lock is the system's and ends with the process, and forked children do not keep it.
The file itself cannot be locked so, because that would lock out readers, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from techo._printable import quoted
from techo._watch.counts import DAY, HOUR, MINUTE

FINER: Final = {HOUR: MINUTE, DAY: HOUR}
"""What spans of these lengths, in seconds, are made of."""

VERSION: Final = 1
"""Of what is in the file; another number means that this program cannot read it."""

_APPLICATION: Final = 0x7465636F
"""What SQLite's application_id is in our files: "teco"."""

_BUSY_SECONDS: Final = 5.0
"""How long to wait for another process that works on the same file."""

_WAL_BYTES: Final = 16 * 2**20
"""To what a WAL is cut after it was longer, because something was read for long."""

_TABLES: Final = """
CREATE TABLE target (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE span (
    seconds INTEGER NOT NULL,
    start INTEGER NOT NULL,
    target INTEGER NOT NULL REFERENCES target,
    counts BLOB NOT NULL,
    PRIMARY KEY (seconds, start, target)
) WITHOUT ROWID;
CREATE TABLE change (
    id INTEGER PRIMARY KEY,
    target INTEGER NOT NULL REFERENCES target,
    at REAL NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX change_at ON change (target, at);
CREATE TABLE level (
    seconds INTEGER PRIMARY KEY,
    rolled INTEGER NOT NULL,
    pruned INTEGER NOT NULL
);
INSERT INTO level VALUES (60, 0, 0), (3600, 0, 0), (86400, 0, 0);
"""
"""Spans in the order of time, so that what is written together lies together. Of each length,
those before `rolled` were made of finer ones, and those before `pruned` are gone."""


class HistoryError(ValueError):
    """A history cannot be used; the text names the file and, where there is one, the remedy."""


@attrs.frozen
class Writable:
    """A connection that writes, and what keeps others from that."""

    connection: sqlite3.Connection
    lock: sqlite3.Connection | None

    def close(self) -> None:
        """Close the file, and let another write."""
        self.connection.close()
        if self.lock is not None:
            self.lock.close()


def open_to_write(path: str | None) -> Writable:
    """Open a history to add to it, a new one if there is none; without a path a private one.

    Raises:
        HistoryError: it is no history, or one of a newer version, or somebody else is writing
            it, or it cannot be written. What is there stays as it is.
    """
    if path is None:
        connection = _connect("")
        _create(connection)
        return Writable(connection, None)
    _check_place(path)
    with contextlib.ExitStack() as stack, _explaining(path, "write"):
        if Path(path).exists():
            with contextlib.closing(_connect_to_read(path)) as found:
                _is_new(found, path)
        lock = stack.enter_context(contextlib.closing(_locked(path)))
        connection = stack.enter_context(contextlib.closing(_connect(_uri(path, "rwc"))))
        new = _is_new(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise HistoryError(
                f"{quoted(path)} is on a file system without shared memory, such as one of a "
                "network; name a file on this machine"
            )
        # What is committed outlives this process. To outlive a power cut it would have to wait
        # for the disk each second; without, what the system has not written yet is lost then.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        if new:
            _create(connection)
        stack.pop_all()
    return Writable(connection, lock)


@contextlib.contextmanager
def opened_to_read(path: str) -> Iterator[sqlite3.Connection]:
    """Open a history that another process may be writing; all that is read is of one moment.

    Raises:
        HistoryError: it is no history, or one of a newer version, or it cannot be read.
    """
    with _explaining(path, "read"):
        _check_readable(path)
        with contextlib.closing(_connect_to_read(path)) as connection:
            if _is_new(connection, path):
                raise HistoryError(f"{quoted(path)} is empty, and no history of techo watch")
            connection.execute("BEGIN")
            yield connection


def _connect_to_read(path: str) -> sqlite3.Connection:
    wal = Path(f"{path}-wal")
    # Where nobody writes there is no WAL, and a reader would make one, or could not.
    return _connect(_uri(path, "ro") + "&immutable=1" * (not wal.exists()))


def _connect(database: str) -> sqlite3.Connection:
    return sqlite3.connect(
        database,
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,  # transactions begin where we say so
        check_same_thread=False,  # one thread at a time, but not always the same
    )


def _uri(path: str, mode: str) -> str:
    return f"{Path(path).absolute().as_uri()}?mode={mode}"


def _create(connection: sqlite3.Connection) -> None:
    # All of it or nothing, for who is killed meanwhile.
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION}; "
        f"PRAGMA user_version = {VERSION}; COMMIT;"
    )


def _locked(path: str) -> sqlite3.Connection:
    lock = _connect(_uri(f"{os.path.realpath(path)}.lock", "rwc"))
    try:
        lock.execute("PRAGMA busy_timeout = 0")
        lock.execute("PRAGMA journal_mode = MEMORY")  # or a third file would stay behind
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_BUSY:
            raise
        raise HistoryError(
            f"{quoted(path)} has a writer already; end the other techo watch, or name another "
            "file"
        ) from None
    return lock


def _is_new(connection: sqlite3.Connection, path: str) -> bool:
    """Return whether nothing is in a database yet.

    Raises:
        HistoryError: it has something else in it.
    """
    application, version, tables = (
        connection.execute(query).fetchone()[0]
        for query in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_master",
        )
    )
    if not application and not version and not tables:
        return True
    if application != _APPLICATION:
        raise _no_history(path)
    if version != VERSION:
        raise HistoryError(
            f"{quoted(path)} is a history of version {version}, and this techo has version "
            f"{VERSION}; use a newer techo, or name another file"
        )
    return False


def _no_history(path: str) -> HistoryError:
    return HistoryError(
        f"{quoted(path)} is no history of techo watch, and stays as it is; name another file"
    )


def _check_place(path: str) -> None:
    """Find out what SQLite would have no words for.

    Raises:
        HistoryError: no file of this name could be written.
    """
    place, folder = Path(path), Path(path).absolute().parent
    reason = ""
    if not path:
        raise HistoryError("'' is not the name of a file")
    if place.is_dir():
        reason = "it is a folder"
    elif not folder.is_dir():
        reason = f"there is no folder {quoted(str(folder))}"
    elif not os.access(folder, os.W_OK) or (place.exists() and not os.access(place, os.W_OK)):
        reason = "permission denied"
    if reason:
        raise HistoryError(f"cannot write {quoted(path)}: {reason}")


def _check_readable(path: str) -> None:
    """Find out the same of a file that is to be read.

    Raises:
        OSError: it cannot be.
    """
    if stat.S_ISDIR(Path(path).stat().st_mode):
        raise IsADirectoryError(errno.EISDIR, path)
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, path)


@contextlib.contextmanager
def _explaining(path: str, what: str) -> Iterator[None]:
    """Name the file in the errors of a block."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            raise _no_history(path) from None
        raise HistoryError(f"cannot {what} {quoted(path)}: {error}") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise HistoryError(f"cannot {what} {quoted(path)}: {reason}") from error
    except HistoryError:
        raise
    except (ValueError, KeyError) as error:  # as decoding raises them
        raise HistoryError(f"{quoted(path)} is damaged: {error}") from error
