"""The options of serve about who may come in, and the hook that they make."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from techo._cli.options import Group, option
from techo._cli.readers import Form, count_form
from techo._operate.networks import UNIX, read_network
from techo._validation import COUNT

if TYPE_CHECKING:
    from techo._operate.admission import Admission


def _read(text: str) -> str:
    read_network(text)
    return text


def _read_proxy(text: str) -> str:
    return text if text == UNIX else _read(text)


_RATE: Final = count_form(COUNT.or_off())

ADMISSION: Final = Group(
    "Who may come in",
    [
        option(
            "--allow",
            Form("NETWORK", _read),
            "let in these addresses, such as 192.0.2.0/24, and no others; the most specific "
            "network decides, and --deny if both name it",
            repeatable=True,
            shown="all",
        ),
        option(
            "--deny",
            Form("NETWORK", _read),
            "refuse these",
            repeatable=True,
            shown="none",
        ),
        option(
            "--proxy-from",
            Form("NETWORK", _read_proxy),
            "be behind a proxy at this address, or unix for one that comes by a Unix socket. "
            "Whatever comes must come from there and begin with a PROXY header, version 1 or "
            "2, whose source counts from then on",
            repeatable=True,
            shown="no proxy",
        ),
        option(
            "--max-connects-per-second",
            _RATE,
            "refuse connections beyond this many a second; a second's worth may come at once",
            shown="off",
        ),
        option(
            "--max-connects-per-host",
            _RATE,
            "the same for one address, or one /64 of IPv6, also a second",
            shown="off",
        ),
    ],
)


def admission_of(options: argparse.Namespace) -> Admission | None:
    """Return the hook that the options ask for; None if they ask for nothing."""
    names = ("allow", "deny", "proxy_from", "max_connects_per_second", "max_connects_per_host")
    wanted = {name: value for name in names if (value := getattr(options, name))}
    if not wanted:
        return None
    from techo._operate.admission import Admission

    return Admission(**wanted)
