"""Bad certificates: expired ones, and ones for another name."""

from __future__ import annotations

import datetime as dt
import functools
import ssl
from collections.abc import Iterable
from typing import Any

from techo._faults.plan import Plan
from techo._faults.values import ExpiredCertificate, Fault, WrongName

_NAMES = ("localhost", "127.0.0.1", "::1")


def check_certificates(faults: Iterable[Fault], where: object, *, ours: bool) -> None:
    """Refuse bad certificates where the TLS is not `ours`, and issue them where it is.

    Raises:
        ValueError: as `bad_context`, or the TLS is another's; the text names the fault.
    """
    for fault in faults:
        if isinstance(fault, ExpiredCertificate | WrongName):
            if not ours:
                raise ValueError(f"fault {fault} cannot happen on {where}: its TLS is not ours")
            bad_context(fault)  # what is wrong with it is reported before anybody connects


def shown_context(tls: ssl.SSLContext, plan: Plan) -> ssl.SSLContext:
    """Return what to show to a TLS client, which may be another certificate than it should."""
    for bad in (plan.first(ExpiredCertificate), plan.first(WrongName)):
        if bad is not None:
            plan.note(bad)
            tls = bad_context(bad)
    return tls


@functools.lru_cache(maxsize=16)  # issuing one takes a while, and each connection asks
def bad_context(fault: ExpiredCertificate | WrongName) -> ssl.SSLContext:
    """Return a server's context with the certificate that the fault asks for.

    Raises:
        ValueError: trustme is not installed, which issues them.
    """
    authority = _authority(fault.authority)
    if isinstance(fault, WrongName):
        issued = authority.issue_cert("wrong.example")
    else:
        yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        issued = authority.issue_cert(*_NAMES, not_after=yesterday)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    return context


def _authority(given: Any) -> Any:
    if given is not None:
        return given
    try:
        import trustme  # noqa: PLC0415  -- nothing else needs it
    except ModuleNotFoundError:
        raise ValueError(
            "bad certificates are issued by trustme: install it, or techo with its extra "
            "testing, or give an authority"
        ) from None
    return trustme.CA()
