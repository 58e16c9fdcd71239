"""Faults: the options that make a server misbehave, and what help says of their values."""

from __future__ import annotations

from typing import Final

from techo._cli.fault_file import fault_file
from techo._cli.options import Group, option
from techo._cli.readers import SEED, Form
from techo._faults.text import NARROWING, forms, kinds, parse_fault

FAULT_NOTES: Final = f"""\
Faults for --fault:
  {forms()}
  Each may go on with these, after a comma:
  {", ".join(NARROWING)}.
  N counts connections: skip=2,first=3 hits three of them, after two.
  The TIMEs of between count from the start."""

FAULT: Final = Form("FAULT", parse_fault, choices=kinds)
"""How a fault is written."""

SEEDED: Final = option(
    "--seed",
    SEED,
    "what chance depends on: the same seed, the same faults",
    default=0,
)

FAULTS: Final = Group(
    "Faults, to test clients with",
    [
        option(
            "--fault",
            FAULT,
            "misbehave on purpose, as listed below",
            repeatable=True,
            shown="none",
        ),
        fault_file("--fault-file", "--fault"),
        SEEDED,
    ],
)
