"""A sequence: what becomes known in any order, taken up in the order of its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")


@attrs.define(eq=False)
class InSequence(Generic[T]):
    """Holds back what has come too early."""

    _early: dict[int, T] = attrs.field(factory=dict)
    """By number: what waits for one before it."""
    _next: int = 1

    def __len__(self) -> int:
        """Return how many are held back."""
        return len(self._early)

    def put(self, number: int, value: T) -> Iterator[T]:
        """Take in the value of a number, counted from 1; yield what was waited for."""
        self._early[number] = value
        while self._next in self._early:
            self._next += 1
            yield self._early.pop(self._next - 1)
