"""Who may see the page: this machine's own users, elsewhere whoever has the token."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from techo._operate.web import App, header, respond
from techo._printable import quoted

VARIABLE: Final = "TECHO_WEB_TOKEN"
"""The environment variable that may have the token."""

OPEN_PATHS: Final = ("/healthz", "/readyz")
"""What asks whether a service lives has no token to show, and learns nothing of the targets."""

_SHORTEST: Final = 16
"""Characters: with fewer it could be guessed, since nothing here slows guessing down."""

_LARGEST: Final = 4096
"""Bytes of a file with a token: a larger one is something else."""

_HOW: Final = "make one with: (umask 077; head -c 24 /dev/urandom | base64 > FILE)"


def is_loopback(host: str | None) -> bool:
    """Return whether only this machine can connect to an address; None is every address."""
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name can be anything's


def require_token(app: App, token: str) -> App:
    """Return an app that responds to requests which show the token, and else says 401.

    They show it as ``Authorization: Bearer``, or as the password of any user by ``Basic``,
    for which a browser asks. `OPEN_PATHS` are open.
    """
    wanted = token.encode()

    async def guarded(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            shown = _shown(header(scope, b"authorization"))
            if not hmac.compare_digest(shown, wanted):
                ask = (b"www-authenticate", b'Basic realm="techo watch", charset="UTF-8"')
                text = "this takes the token: as a bearer's, or as the password of any user\n"
                await respond(send, 401, text, more_headers=[ask])
                return
        await app(scope, receive, send)

    return guarded


def _shown(authorization: str) -> bytes:
    """Return the token that a request shows; empty, which is none, if it shows none."""
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value.encode("latin-1")  # as the header was read
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:  # it is no base64, or not even ASCII
            return b""
    return b""


def read_token(path: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the token of a file, or else of the environment; None if there is neither.

    Raises:
        ValueError: it is no good token, or others may read the file; the text has the remedy.
        OSError: the file can't be read.
    """
    if path is not None:
        return _checked(_read(Path(path)), f"the file {quoted(path)}")
    found = environ.get(VARIABLE)
    return _checked(found, VARIABLE) if found else None


def _read(path: Path) -> str:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & stat.S_IROTH:
            raise ValueError(
                f"the file {quoted(str(path))} has a token and anybody may read it; "
                "chmod o= FILE"
            )
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"the file {quoted(str(path))} is too large for a token; {_HOW}")
    return data.decode("latin-1")  # what is not ASCII is refused


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if not token:
        raise ValueError(f"{where} is empty, and should have a token; {_HOW}")
    if len(token) < _SHORTEST:
        raise ValueError(
            f"the token in {where} has {len(token)} characters, and should have {_SHORTEST} "
            f"or more; {_HOW}"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"the token in {where} has spaces or other characters than ASCII's; {_HOW}"
        )
    return token
