"""What the tests of commands share: a server to ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers import serving


@pytest.fixture(scope="session")
def port() -> Iterator[str]:
    """Return the port of a server that stamps; all tests share it, and none may end it."""
    with serving("-q") as process:
        yield str(process.port)
        process.finish()
