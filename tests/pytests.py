"""Runs of pytest in tests of its plugin, as other projects have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

Run: TypeAlias = Callable[..., pytest.RunResult]
"""Runs pytest on a test file, with arguments."""
