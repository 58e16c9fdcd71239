"""Targets: what is watched, how it is probed, and what is asked of it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._printable import quoted
from techo._probing.payloads import SIZE
from techo._probing.target import Connect, check_connecting, check_target, name_of
from techo._validation import FLAG, SECONDS_ABOVE_0, Requirement, whole
from techo._watch.counts import Counts
from techo._watch.rules import parse_rule
from techo.endpoint import Endpoint

_LONGEST: Final = 300
"""Characters of a name, a group or a label: these stand in tables, and in every series."""

_MOST_LABELS: Final = 20

_LABEL: Final = re.compile("[a-zA-Z_][a-zA-Z0-9_]{0,99}")
"""What Prometheus takes as the name of a label."""


def _text(least: int) -> Requirement:
    return Requirement(
        f"a text of {least} to {_LONGEST} characters that can be printed",
        lambda value: (
            type(value) is str and value.isprintable() and least <= len(value) <= _LONGEST
        ),
    )


NAME: Final = _text(1)
"""What the name of a target has to be."""

GROUP: Final = _text(0)
"""What that of its group, and the value of a label, has to be."""


class WatchRule(Protocol):
    """What makes a target degraded when it fires."""

    @property
    def text(self) -> str:
        """As it was given, such as ``p99>5ms``."""

    def judge(self, counts: Counts, certificate_days: float | None = None) -> str | None:
        """Return what was found if it fires; what cannot be told yet does not."""


@attrs.frozen(kw_only=True)
class Thresholds:
    """How many probes, or changes, make another state.

    Raises:
        ValueError: one makes no sense; the text names it and its value.
    """

    down_after: int = attrs.field(default=3, validator=whole(1, 1000))
    """So many lost running, and it is down."""
    up_after: int = attrs.field(default=2, validator=whole(1, 1000))
    """So many answered running, and it is up again."""
    flap_changes: int = attrs.field(default=3, validator=whole(1, 1000))
    """More changes than this in `flap_seconds`, and it is flapping."""
    flap_seconds: float = attrs.field(default=300.0, validator=SECONDS_ABOVE_0)
    """Likewise; and when it has not changed for so long, it is flapping no more."""


def check_labels(labels: Any) -> None:
    """Refuse labels that Prometheus would.

    Raises:
        ValueError: it has the name and the value of the one that is wrong.
    """
    if not isinstance(labels, Mapping):
        raise ValueError(f"labels {labels!r:.99} is not a mapping of names to texts")  # noqa: TRY004  -- as all refuse
    if len(labels) > _MOST_LABELS:
        raise ValueError(f"labels: {len(labels)} are too many; {_MOST_LABELS} are allowed")
    for name, value in labels.items():
        if not isinstance(name, str) or not _LABEL.fullmatch(name) or name.startswith("__"):
            raise ValueError(
                f"labels: {quoted(name)} is not a name of letters, digits and _, as in site"
            )
        GROUP.check(**{f"labels: {name}": value})


def _read_rules(rules: Iterable[WatchRule | str]) -> tuple[WatchRule, ...]:
    if isinstance(rules, str):
        raise ValueError(f"rules {quoted(rules)} is one text; write [{rules!r}]")  # noqa: TRY004  -- as all refuse
    return tuple(parse_rule(each) if isinstance(each, str) else each for each in rules)


def _read(endpoint: Any) -> Any:
    return Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint


@attrs.frozen(kw_only=True)
class WatchTarget:
    """One target: two that are equal need not be told apart, as when a file is read again.

    Raises:
        ValueError: a field makes no sense; the text names it and its value.
        TypeError: the endpoint is neither an endpoint nor a function.
    """

    endpoint: Endpoint | Connect = attrs.field(converter=_read)
    """Where it is: an endpoint, its text, or an async function that connects."""
    name: str = attrs.field(
        default=attrs.Factory(lambda self: name_of(self.endpoint), takes_self=True),
        validator=NAME,
    )
    """What it is called everywhere; no other target has the same. By default its endpoint."""
    group: str = attrs.field(default="", validator=GROUP)
    """What it belongs to; empty if to nothing."""
    labels: Mapping[str, str] = attrs.field(
        factory=dict, validator=lambda _self, _field, value: check_labels(value)
    )
    """What else there is to say of it, by name: a site, or who to call."""
    interval: float = attrs.field(default=1.0, validator=SECONDS_ABOVE_0)
    """Seconds from one probe to the next."""
    timeout: float = attrs.field(default=1.0, validator=SECONDS_ABOVE_0)
    """Seconds that a reply, or a connection, is waited for."""
    size: int = attrs.field(default=64, validator=SIZE)
    """Bytes of a probe."""
    connect: bool = attrs.field(default=False, validator=FLAG)
    """Whether a probe is a connection of its own, which sends nothing: for any server."""
    tls: ssl.SSLContext | None = attrs.field(default=None, eq=False)
    """Of tls endpoints; None trusts what the system trusts."""
    server_name: str | None = None
    """The name that the server's certificate must have; None is the host."""
    options: SocketOptions = attrs.field(
        default=DEFAULT_OPTIONS,
        validator=Requirement(
            "a techo.SocketOptions", lambda value: isinstance(value, SocketOptions)
        ),
    )
    """What is asked of its sockets."""
    rules: Sequence[WatchRule] = attrs.field(factory=tuple, converter=_read_rules)
    """What makes it degraded: rules, or their texts."""
    thresholds: Thresholds = attrs.field(
        factory=Thresholds,
        validator=Requirement(
            "a techo.Thresholds", lambda value: isinstance(value, Thresholds)
        ),
    )
    """How many probes, or changes, make another state."""
    tls_key: object = attrs.field(
        default=attrs.Factory(lambda self: self.tls, takes_self=True), repr=False
    )
    """What stands for `tls` when targets are compared, which contexts themselves cannot be."""

    def __attrs_post_init__(self) -> None:
        check_target(self.endpoint, self.tls, self.server_name, self.options, pinging=True)
        if self.connect:
            check_connecting(self.endpoint)

    @property
    def kind(self) -> str:
        """That of its endpoint, such as ``tcp``; ``function`` if that is one."""
        return str(self.endpoint.kind) if isinstance(self.endpoint, Endpoint) else "function"
