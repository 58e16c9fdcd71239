"""The file of watch: targets, groups and defaults in TOML, and every mistake that it has."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import ssl
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from techo._cli.packets import fitting_options
from techo._cli.tls import trusting
from techo._cli.toml_lines import Place, TomlError, lines_of, read_toml
from techo._cli.watch_keys import (
    EXCLUSIVE,
    KEYS,
    OF_A_TARGET,
    OF_ALL,
    OPTIONS,
    UNSET,
    text,
    text_or_number,
)
from techo._printable import did_you_mean, printable, quoted
from techo._probing.target import check_connecting
from techo._protocols import ANY_PROTOCOL, check_experimental
from techo._watch.rules import parse_rule
from techo._watch.targets import GROUP, NAME, Thresholds, WatchTarget, check_labels
from techo.endpoint import Endpoint, Kind, check_connectable

MOST: Final = 10_000
"""Targets that a file may have."""

_LARGEST: Final = 2**24
"""Bytes of a file; a target takes a hundred."""

_FILES: Final = ("tls-ca", "tls-cert", "tls-key")
_TLS: Final = tuple(name for name in OPTIONS if name.startswith("tls-"))
_TOGETHER: Final = (*EXCLUSIVE, ("connect", "size"))
"""Pairs of which no table has both: a connection has no size."""


class ConfigError(ValueError):
    """A file is wrong; its text has one line for each mistake."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def check_config(
    path: str, pause: Callable[[], object] = lambda: None
) -> tuple[WatchTarget, ...]:
    """Return the targets of a file; this blocks. `pause` is called between targets.

    Raises:
        ConfigError: it cannot be read, or has mistakes, of which it has every one.
    """
    shown_path = printable(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError([f"{shown_path}: {error.strerror or error}"]) from None
    if len(data) > _LARGEST:
        raise ConfigError([f"{shown_path}: larger than {_LARGEST >> 20}M is no such file"])
    try:
        document = data.decode("utf-8-sig")
        found = read_toml(document)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{shown_path}:{line}: this is not UTF-8"]) from None
    except TomlError as error:
        raise ConfigError([f"{shown_path}:{error.line}: {error}"]) from None
    reader = _Reader(document, os.path.dirname(path), pause)  # noqa: PTH120  -- Path would add ./
    targets = reader.read(found)
    if reader.mistakes:
        mistakes = sorted(reader.mistakes, key=lambda each: each[0])
        raise ConfigError([f"{shown_path}:{line}: {what}" for line, what in mistakes])
    return targets


@attrs.frozen
class _Level:
    """What one table says, as far as that is right."""

    place: Place
    values: dict[str, Any] = attrs.field(factory=dict)


@attrs.define(eq=False)
class _Reader:
    """Makes targets of what a file says."""

    document: str
    folder: str
    """The file's, which names of other files are relative to."""
    pause: Callable[[], object]
    mistakes: list[tuple[int, str]] = attrs.field(factory=list)
    """With their lines."""
    _defaults: _Level = attrs.field(factory=lambda: _Level(("defaults",)))
    _groups: dict[str, _Level] = attrs.field(factory=dict)
    _names: dict[str, Place] = attrs.field(factory=dict)
    """The names of targets, and where these stand."""
    _contexts: dict[object, ssl.SSLContext | None] = attrs.field(factory=dict)
    """By what they are made of; None if one cannot be made."""

    @functools.cached_property
    def lines(self) -> Mapping[Place, int]:
        """Where everything stands; only mistakes need it."""
        return lines_of(self.document)

    def wrong(self, place: Place, what: str) -> None:
        """Note a mistake, with the keys that lead to it; a number in a list is none of them."""
        keys = ".".join(each for each in place if isinstance(each, str))
        self.mistakes.append((self.lines.get(place, 1), printable(f"{keys}: {what}")))

    def read(self, data: Mapping[str, Any]) -> tuple[WatchTarget, ...]:
        """Return the targets that are right."""
        known = ("defaults", "group", "target")
        for name in data:
            if name not in known:
                near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                self.wrong((name,), f"unknown table{near}")
        if self._is(data.get("defaults", {}), dict, ("defaults",), "write [defaults]"):
            self._defaults = self._level(("defaults",), data.get("defaults", {}))
        self._read_groups(data.get("group", {}))
        targets = data.get("target", [])
        if not self._is(targets, list, ("target",), "write [[target]], in two brackets"):
            return ()
        if not targets:
            self.wrong(("target",), "there is none; begin with [[target]] and its endpoint")
        if len(targets) > MOST:
            place = ("target", MOST)
            self.wrong(place, f"{len(targets):,} are too many; {MOST:,} are allowed")
            return ()
        found = []
        for number, table in enumerate(targets):
            found.append(self._target(("target", number), table))
            self.pause()
        return tuple(each for each in found if each is not None)

    def _read_groups(self, groups: Any) -> None:
        if self._is(groups, dict, ("group",), "write [group.NAME]"):
            for name, each in groups.items():
                if self._is(each, dict, ("group", name), f"write [group.{name}]"):
                    self._groups[name] = self._level(("group", name), each)

    def _is(self, value: Any, kind: type, place: Place, remedy: str) -> bool:
        """Note a mistake if a value is of another kind."""
        if not isinstance(value, kind):
            self.wrong(place, remedy)
            return False
        return True

    def _level(
        self, place: Place, table: Mapping[str, Any], also: Sequence[str] = ()
    ) -> _Level:
        """Read one table."""
        level = _Level(place)
        known = (*also, *OF_ALL)
        for key, value in table.items():
            where = (*place, key)
            if key == "labels":
                level.values[key] = self._labels(where, value)
            elif key == "rules":
                level.values[key] = self._rules(where, value)
            elif key in known:
                try:
                    level.values[key] = self._value(key, value)
                except ValueError as error:
                    self.wrong(where, str(error))
            elif key in OF_A_TARGET:
                self.wrong(where, "only a target has this")
            else:
                near = did_you_mean(key, known) or f"; there are {', '.join(known)}"
                self.wrong(where, f"unknown key{near}")
        for one, other in _TOGETHER:
            if level.values.get(one) and level.values.get(other):
                self.wrong((*place, other), f"not together with {one}")
        return level

    def _value(self, key: str, value: Any) -> Any:
        """Read what belongs to a key.

        Raises:
            ValueError: it is wrong.
        """
        if key == "endpoint":
            return check_connectable(text_or_number(value), None, None, pinging=True)
        if key in OF_A_TARGET:
            found = text(value)
            missing = (NAME if key == "name" else GROUP).missing(found)
            if missing is not None:
                raise ValueError(f"{quoted(found)} is not {missing}")
            return found
        found = KEYS[key](value)
        return os.path.join(self.folder, found) if key in _FILES else found  # noqa: PTH118  -- texts

    def _labels(self, place: Place, value: Any) -> dict[str, str]:
        if not self._is(value, dict, place, 'write { site = "one" }'):
            return {}
        found = {}
        for name, each in value.items():
            try:
                check_labels({name: each})
            except ValueError as error:
                self.wrong((*place, name), str(error).removeprefix("labels: "))
            else:
                found[name] = each
        return found

    def _rules(self, place: Place, value: Any) -> tuple[Any, ...]:
        found = []
        if self._is(value, list, place, 'write ["p99>5ms", "loss>1%"]'):
            for number, each in enumerate(value):
                try:
                    found.append(parse_rule(text(each)))
                except ValueError as error:
                    self.wrong((*place, number), str(error))
        return tuple(found)

    def _target(self, place: Place, table: Any) -> WatchTarget | None:
        """Read a target; None if it has mistakes."""
        before = len(self.mistakes)
        if not self._is(table, dict, place, "write [[target]], in two brackets"):
            return None
        own = self._level(place, table, OF_A_TARGET)
        if "endpoint" not in table:
            self.wrong(place, 'its endpoint is missing, as in endpoint = "localhost:8009"')
        if "endpoint" not in own.values:
            return None
        group = self._group_of(own)
        self._check_name(own)
        made = self._make(own, [self._defaults, group, own])
        return made if len(self.mistakes) == before else None

    def _group_of(self, own: _Level) -> _Level:
        """Return what its group says."""
        name = own.values.get("group", "")
        if self._groups and name and name not in self._groups:
            near = did_you_mean(name, self._groups) or f"; write [group.{name}], if it is one"
            self.wrong((*own.place, "group"), f"there is no [group.{name}]{near}")
        return self._groups.get(name, _Level(own.place))

    def _check_name(self, own: _Level) -> None:
        key = "name" if "name" in own.values else "endpoint"
        name = str(own.values[key])
        if (earlier := self._names.setdefault(name, own.place)) != own.place:
            remedy = "" if key == "name" else "; give each a name"
            what = f"the target of line {self.lines[earlier]} is {quoted(name)}, too{remedy}"
            self.wrong((*own.place, key), what)

    def _make(self, own: _Level, levels: Sequence[_Level]) -> WatchTarget | None:
        """Return the target that tables describe, the nearest last."""
        values = _merged(level.values for level in levels)
        endpoint: Endpoint = own.values["endpoint"]
        options = _options(own, values)

        def blame(key: str, what: str) -> None:
            where = key if key in own.values else "endpoint"
            self.wrong((*own.place, where), what if where == key else f"{key}: {what}")

        if not values.get("any-protocol"):
            try:
                check_experimental(endpoint.protocol, endpoint)
            except ValueError as error:
                what = str(error).replace(ANY_PROTOCOL, ANY_PROTOCOL.removeprefix("--"))
                self.wrong((*own.place, "endpoint"), what)
        context, key = None, None
        if endpoint.kind is Kind.TLS:
            context, key = self._context(levels, options)
        else:
            for name in [name for name in _TLS if name in own.values]:
                blame(name, f"this is for tls endpoints, and {endpoint} is none")
        try:
            sockets = fitting_options(options)
        except ValueError as error:
            name, _, reason = str(error).partition(": ")
            blame(name, reason)
            return None
        connect = values.get("connect", False)
        try:
            if "connect" not in own.values:
                with contextlib.suppress(ValueError):
                    connect = False
                    check_connecting(endpoint)
                    connect = values.get("connect", False)
            return WatchTarget(
                endpoint=endpoint,
                name=values.get("name", str(endpoint)),
                group=values.get("group", ""),
                labels=values.get("labels", {}),
                connect=connect,
                tls=context,
                tls_key=key,
                server_name=options.tls_server_name if context is not None else None,
                options=sockets,
                rules=values.get("rules", ()),
                thresholds=_thresholds(values),
                **{
                    name: values[name]
                    for name in ("interval", "timeout", "size")
                    if name in values
                },
            )
        except ValueError as error:
            self.wrong(own.place, str(error))
        return None

    def _context(
        self, levels: Sequence[_Level], options: argparse.Namespace
    ) -> tuple[ssl.SSLContext | None, object]:
        """Return what TLS trusts and shows, and what it is made of, to be compared.

        Targets share it. It is made anew when a file has changed, as a renewed certificate.
        """
        files = [(name, getattr(options, name.replace("-", "_"))) for name in _FILES]
        key = (options.tls_insecure, *((name, path, _version(path)) for name, path in files))
        if key not in self._contexts:
            self._contexts[key] = None
            try:
                self._contexts[key] = trusting(options)
            except ValueError as error:
                what = str(error)
                if options.tls_key is not None and options.tls_cert is None:
                    what = "tls-key is of a certificate: give tls-cert, too"
                named = [name for name in reversed(_FILES) if name in what]
                self.wrong(_where(levels, named or _FILES), what)
        return self._contexts[key], key


def _merged(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what tables say together, of which the last is nearest; labels are added up."""
    found: dict[str, Any] = {}
    for table in tables:
        for pair in EXCLUSIVE:
            for one, other in (pair, pair[::-1]):
                if table.get(one):
                    found.pop(other, None)
        labels = {**found.get("labels", {}), **table.get("labels", {})}
        found |= {**table, "labels": labels}
    return found


def _where(levels: Sequence[_Level], names: Sequence[str]) -> Place:
    """Return where one of these keys stands, as near to the target as possible."""
    for level in reversed(levels):
        for name in names:
            if name in level.values:
                return (*level.place, name)
    return levels[-1].place


def _options(own: _Level, values: Mapping[str, Any]) -> argparse.Namespace:
    """Return the options of a target as those of a command."""
    names = {name: name.replace("-", "_") for name in OPTIONS}
    if not values["endpoint"].host:  # only what it says itself is about it
        values = {each: values[each] for each in values if each in own.values or each in _TLS}
    return argparse.Namespace(
        endpoint=values["endpoint"],
        given={names[name] for name in own.values if name in names},
        variables={dest: name for name, dest in names.items()},
        **{dest: values.get(name, UNSET[name]) for name, dest in names.items()},
    )


def _thresholds(values: Mapping[str, Any]) -> Thresholds:
    names = {
        "down-after": "down_after",
        "up-after": "up_after",
        "flap-changes": "flap_changes",
        "flap-time": "flap_seconds",
    }
    return Thresholds(**{field: values[key] for key, field in names.items() if key in values})


def _version(path: str | None) -> object:
    """Return what differs when a file has been changed; None if that is no such file."""
    if path is None:
        return None
    with contextlib.suppress(OSError):
        found = os.stat(path)  # noqa: PTH116  -- a text
        if stat.S_ISREG(found.st_mode):
            return found.st_mtime_ns, found.st_size, found.st_ino
    return None
