"""Snapshots of targets that nobody has probed."""

from __future__ import annotations

from typing import Any

from techo._watch.counts import Counts, Snapshot
from techo._watch.events import State


def snapshot(target: str = "one", **fields: Any) -> Snapshot:
    """Return a snapshot of a target that is up, with other fields as given."""
    return Snapshot(
        **{
            "target": target,
            "endpoint": "tcp://127.0.0.1:8009",
            "kind": "tcp",
            "group": "",
            "labels": {},
            "state": State.UP,
            "since": 1.0,
            "down": False,
            "last_ns": None,
            "cause": None,
            "reason": "",
            "sent": 0,
            "missed": 0,
            "recent": Counts(),
            "total": Counts(),
            "setup": {},
            "certificate_end": None,
            **fields,
        }
    )
