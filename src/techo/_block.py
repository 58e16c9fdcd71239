"""Blocks: how far something has come that runs within one ``async with`` block, and once."""

from __future__ import annotations

import enum


class BlockState(enum.Enum):
    """Where it is."""

    NEW = enum.auto()
    """Not in its block yet."""
    RUNNING = enum.auto()
    """In its block."""
    OVER = enum.auto()
    """Behind it."""

    def __str__(self) -> str:
        return {"NEW": "not begun", "RUNNING": "running", "OVER": "over"}[self.name]
