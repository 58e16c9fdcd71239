"""Complaints: what went wrong on the network, in one line with the remedy."""

from __future__ import annotations

import errno
import socket
import ssl
import sys
from collections.abc import Mapping
from typing import Final

from techo._client.connecting import first_cause
from techo._probing.causes import words_of

_REMEDIES = {
    errno.EADDRINUSE: "stop what listens there, or choose another port (0 is any free one)",
    errno.EACCES: "ports below 1024 need privileges; choose a higher one",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; 127.0.0.1 and * exist",
    errno.ECONNREFUSED: "start a server there, or check host and port",
    errno.ETIMEDOUT: "check that the host is up and lets connections to this port through",
}

_BINDING_TO_PATH = {
    errno.EADDRINUSE: "stop the server that is alive there, or choose another path",
    errno.EEXIST: "what is there is no socket; move it, or choose another path",
    errno.ENOENT: "make its directory first",
    errno.EACCES: "what is there is somebody else's, or the directory is; choose another path",
    errno.EPERM: "what is there is somebody else's; remove it, or choose another path",
}

_BINDING_DESCRIPTOR = {
    errno.EBADF: "nothing was passed under that number",
    errno.ENOTSOCK: "pass a socket",
    errno.ENOTCONN: "pass a socket that is bound",
    errno.EINVAL: "pass a socket that listens",
    errno.EPROTONOSUPPORT: "pass a socket of TCP, UDP or Unix",
}

CONNECTING_BY_PATH: Final = {
    errno.ENOENT: "check the path, and that the server is running",
    errno.ECONNREFUSED: "no server listens there; start one",
    errno.EPROTOTYPE: "the server there is of another kind: unix, unixgram or unixpacket",
    errno.EACCES: "connecting takes permission to write to that path",
    errno.EAGAIN: "too many clients are waiting to be accepted; try again",
}
"""What to do when connecting to a Unix path fails; `complain` takes it."""

_NAME_MISMATCHES = {62, 64}
"""Of a host name and of an IP address: X509_V_ERR_..._MISMATCH in OpenSSL's x509_vfy.h."""

_OUT_OF_DATE = {9, 10}
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def refuse(reason: str) -> int:
    """Say on standard error why nothing was tried; give the exit code for that."""
    sys.stderr.write(f"techo: {reason}\n")
    return 2


def complain_of_binding(error: OSError) -> int:
    """Say on standard error what could not be listened on, and give the exit code for that."""
    name = str(error.filename)
    remedies = _REMEDIES
    if name.startswith("unix"):
        remedies = _BINDING_TO_PATH
    elif name.startswith("fd:"):
        remedies = _BINDING_DESCRIPTOR
    return complain(f"cannot listen on {name}", error, remedies)


def complain(what: str, error: OSError, remedies: Mapping[int, str] = _REMEDIES) -> int:
    """Say on standard error what failed, why, and what to do; give the exit code for that.

    `remedies` says what to do, by error number, where that depends on what was tried.
    """
    cause = first_cause(error)
    if isinstance(cause, ssl.SSLError):
        remedy = _tls_remedy(cause)
    elif isinstance(cause, socket.gaierror):
        remedy = "check the spelling of its name"
    else:
        remedy = remedies.get(cause.errno or 0, "check the address")
    return refuse(f"{what}: {words_of(cause)}; {remedy}")


def _tls_remedy(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME_MISMATCHES:
            return "--tls-server-name NAME, if it goes by another name"
        if error.verify_code in _OUT_OF_DATE:
            return "renew it, or check the clock"
        return "--tls-ca FILE with who signed it, if you trust that"
    if "alert" in words_of(error):  # which is the server's word on us
        return "--tls-cert FILE, if it wants to know who you are"
    return "check that it speaks TLS on this port"
