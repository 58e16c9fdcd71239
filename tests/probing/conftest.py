"""What the drivers' tests share: how long they wait to reconnect is no matter of theirs."""

from __future__ import annotations

import pytest

from techo._probing import engine


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pause before connecting again be longer than the first."""
    monkeypatch.setattr(engine, "_LONGEST_PAUSE", engine._FIRST_PAUSE)
