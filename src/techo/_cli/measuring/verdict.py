"""The verdict of a measurement: which rules fired, and who was never reached."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from techo._cli.complaints import refuse
from techo._cli.measuring.rules import Rule
from techo._probing.causes import FailureCause
from techo.endpoint import Endpoint

_REMEDIES: Final = {
    FailureCause.DNS: "check the spelling of its name",
    FailureCause.REFUSED: "start a server there, or check where it listens",
    FailureCause.UNREACHABLE: "check the address, and the way there",
    FailureCause.TIMEOUT_CONNECT: "check that it is up and lets connections through",
    FailureCause.TLS: "check that it speaks TLS, and --tls-ca and --tls-server-name",
}


def counted(causes: Mapping[FailureCause, int]) -> str:
    """Tell causes with their counts."""
    return ", ".join(f"{cause} {count:,}" for cause, count in causes.items())


def any_fired(rules: Sequence[Rule], figures: Mapping[str, float | None]) -> bool:
    """Say on standard error which rules fired; whether any did."""
    sentences = [found for rule in rules if (found := rule.judge(figures)) is not None]
    for sentence in sentences:
        sys.stderr.write(f"techo: {sentence}\n")
    return bool(sentences)


def complain_of(what: str) -> int:
    """Say on standard error what was bad without any rule; give the exit code for that."""
    sys.stderr.write(f"techo: {what}\n")
    return 1


def never_reached(endpoint: Endpoint | str, causes: Mapping[FailureCause, int]) -> int:
    """Say on standard error that nobody was there, and why; give the exit code for that."""
    counts = counted(causes)
    most = max(causes, key=lambda cause: causes[cause])
    return refuse(f"{endpoint} was never reached ({counts}); {_REMEDIES[most]}")
