"""The scheduler: Dask's, which knows the machines of a fleet; the only file that needs Dask."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import trio

from techo._fleet.cap import is_loopback
from techo._fleet.machines import Client, FleetError
from techo._printable import quoted

PORT: Final = 8786
"""Dask's own."""

_CONNECT: Final = 5
"""Seconds that a scheduler has to answer."""

_CLOSE: Final = 2.0
"""Seconds that closing may take."""


@attrs.frozen
class Scheduler:
    """Where a scheduler is."""

    scheme: str
    """tcp, or tls with the certificates that Dask's configuration names."""
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Scheduler:
        """Read tcp://HOST:PORT or tls://HOST:PORT; the port is 8786 without one.

        Raises:
            ValueError: it has the text, and what would be right.
        """
        wrong = (
            f"{quoted(text)} is no scheduler: write tcp://HOST:{PORT}, or tls:// if its "
            "connections are encrypted"
        )
        try:
            found = urlsplit(text)
            port = PORT if found.port is None else found.port
        except ValueError:
            raise ValueError(wrong) from None
        rest = found.path or found.query or found.fragment or found.username
        if found.scheme not in ("tcp", "tls") or not found.hostname or rest or not port:
            raise ValueError(wrong)
        return cls(found.scheme, found.hostname, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def check_safe(self, *, insecure: bool) -> None:
        """Refuse one whose connections anybody on the way can read and change.

        Raises:
            FleetError: it has the remedy.
        """
        if self.scheme == "tcp" and not is_loopback(self.host) and not insecure:
            raise FleetError(
                f"{self} is on another machine, and who can reach it, or is on the way, runs "
                f"code on every machine of the fleet: use tls://, or give --insecure"
            )


def check_installed() -> None:
    """Refuse what needs Dask if that is not installed.

    Raises:
        FleetError: the text says how to install it.
    """
    if importlib.util.find_spec("distributed") is None:
        raise FleetError(
            "--fleet needs distributed: in the checkout, pip install '.[fleet]' (the extra "
            "fleet)"
        )


@contextlib.asynccontextmanager
async def connected(scheduler: Scheduler) -> AsyncIterator[Client]:
    """Return a client of a scheduler for a block.

    Raises:
        FleetError: there is none; the text has the remedy.
    """
    check_installed()
    # Abandoned: both may take seconds yet, for which a second Ctrl-C does not wait.
    distributed = await trio.to_thread.run_sync(
        importlib.import_module, "distributed", abandon_on_cancel=True
    )
    # It reports on standard error what we report ourselves, and what users cannot change.
    for name in [*logging.root.manager.loggerDict]:  # each has a level and a handler of its own
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).disabled = True
    warnings.filterwarnings("ignore", module="distributed")
    if scheduler.scheme == "tls":
        _check_certificates(distributed.Security(), scheduler)
    connect = functools.partial(
        distributed.Client, str(scheduler), timeout=_CONNECT, set_as_default=False, name="techo"
    )
    try:
        client: Any = await trio.to_thread.run_sync(connect, abandon_on_cancel=True)
    except (OSError, ValueError) as error:
        raise FleetError(
            f"no scheduler answers at {scheduler} ({_words(error)}): start one (dask "
            "scheduler), or check its address"
        ) from None
    try:
        yield client
    finally:
        with trio.move_on_after(_CLOSE, shield=True):
            await trio.to_thread.run_sync(
                functools.partial(client.close, timeout=_CLOSE), abandon_on_cancel=True
            )


def _check_certificates(security: Any, scheduler: Scheduler) -> None:
    """Refuse to connect without what Dask takes for TLS, of which it says so too late.

    Raises:
        FleetError: it names the file that is missing or of no use.
    """
    files = {
        "ca-file": security.tls_ca_file,
        "client.cert": security.tls_client_cert,
        "client.key": security.tls_client_key,
    }
    if not (files["ca-file"] and files["client.cert"]):
        raise FleetError(
            f"Dask's configuration names no certificates for {scheduler}: set ca-file, "
            "client.cert and client.key of distributed.comm.tls"
        )
    named = {key: each for key, each in files.items() if each and "\n" not in each}  # no text
    for key, path in named.items():
        try:
            Path(path).open("rb").close()
        except OSError as error:
            raise FleetError(
                f"cannot read {path!r} ({error.strerror}): correct {key} of "
                "distributed.comm.tls in Dask's configuration"
            ) from None
    try:
        security.get_connection_args("client")
    except (OSError, ValueError) as error:  # ssl.SSLError is one
        shown = ", ".join(f"{key} {path!r}" for key, path in named.items())
        where = f" ({shown})" if shown else ""
        raise FleetError(
            f"cannot use what Dask's configuration has of distributed.comm.tls{where}: "
            f"{_words(error)}"
        ) from None


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
