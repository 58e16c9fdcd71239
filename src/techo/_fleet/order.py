"""Orders: what a machine of a fleet is asked to do, as JSON, which any Python reads alike."""

from __future__ import annotations

import json
import ssl
from typing import Any

import attrs

from techo._kernel.options import SocketOptions
from techo._load.plan import LoadPlan
from techo.endpoint import Endpoint


@attrs.frozen(kw_only=True)
class FleetTls:
    """How the machines of a fleet do TLS. The files are each machine's own: none is sent."""

    ca: str | None = None
    """A file of PEM certificates to trust; None for those that the machine trusts."""
    insecure: bool = False
    """Whether any certificate is accepted."""
    server_name: str | None = None
    """The name that the server's certificate must have; None for the host."""
    cert: str | None = None
    """A file with a PEM certificate to show to a server that asks for one."""
    key: str | None = None
    """A file with its key; None if that is in the same file."""

    def context(self) -> ssl.SSLContext:
        """Return a context of this machine's files.

        Raises:
            ValueError: a file cannot be used; the text names it.
        """
        context = ssl.create_default_context()
        if self.ca is not None:
            context = _using("ca", self.ca, lambda: ssl.create_default_context(cafile=self.ca))
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if (cert := self.cert) is not None:
            # With a password of ours, or OpenSSL would ask the terminal for one.
            _using("cert", cert, lambda: context.load_cert_chain(cert, self.key, password=""))
        return context


def _using(name: str, path: str, use: Any) -> Any:
    try:
        return use()
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot use {name} {path!r}: {reason}") from None


@attrs.frozen(kw_only=True)
class Order:
    """One share of a load, for one machine."""

    endpoint: Endpoint
    plan: LoadPlan
    options: SocketOptions
    tls: FleetTls | None = None
    """None for an endpoint without TLS."""

    def to_json(self) -> str:
        """Return it as a text."""
        fields = {
            "endpoint": str(self.endpoint),
            "plan": attrs.asdict(self.plan),
            "options": attrs.asdict(self.options),
            "tls": None if self.tls is None else attrs.asdict(self.tls),
        }
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Read back what `to_json` returned."""
        fields: dict[str, Any] = json.loads(text)
        tls = fields["tls"]
        return cls(
            endpoint=Endpoint.parse(fields["endpoint"]),
            plan=LoadPlan(**fields["plan"]),
            options=SocketOptions(**fields["options"]),
            tls=None if tls is None else FleetTls(**tls),
        )
