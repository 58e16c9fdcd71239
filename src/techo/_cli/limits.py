"""Limits: the options of all that serves about limits and the log."""

from __future__ import annotations

import argparse
from typing import Any, Final

import attrs

from techo._cli.options import Group, Option, flag, option, switch
from techo._cli.readers import choice, count_form, size_form, time_form
from techo._server.limits import Limits


def _limit(field: attrs.Attribute[Any], text: str | None = None) -> Option:
    """Return the option for a field of `Limits`, which has all that help says of it."""
    meaning, unit = text or field.metadata["meaning"], field.metadata["unit"]
    if isinstance(field.default, bool):
        return switch(
            flag("no_" + field.name), f"do not {meaning} (default: drop them)", default=True
        )
    if words := field.metadata.get("choices"):
        return option(flag(field.name), choice(*words), meaning, default=field.default)
    requirement: Any = field.validator
    form = {"s": time_form, "bytes": size_form}.get(unit, count_form)(requirement)
    if field.default in requirement.off:
        shown = "the kernel's maximum" if field.name == "backlog" else "off"
    else:
        shown = form.write(field.default) + f" {unit}" * (form.metavar == "N")
    return option(flag(field.name), form, meaning, default=field.default, shown=shown)


def limits_but(*left_out: str, **texts: str) -> Group:
    """Return the options of all limits but those left out; some have another text."""
    fields = [each for each in attrs.fields(Limits) if each.name not in left_out]
    return Group("Limits", [_limit(each, texts.get(each.name)) for each in fields])


LIMITS: Final = limits_but()

LOG: Final = Group(
    "Log",
    [
        option(
            "--log-format",
            choice("text", "json"),
            "lines for people, or one JSON object per line",
            default="text",
        ),
        Group(
            "",
            [
                switch("-q --quiet", "log warnings and errors only"),
                switch("-v --verbose", "log single datagrams and refusals, too"),
            ],
            exclusive=True,
        ),
    ],
)


def limits_of(options: argparse.Namespace) -> Limits:
    """Return the limits that the options set; those that they have not stay as usual."""
    given = vars(options)
    names = [each.name for each in attrs.fields(Limits)]
    return Limits(**{name: given[name] for name in names if name in given})
