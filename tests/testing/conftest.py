"""What the tests of the pytest plugin share: a run of pytest on a file of theirs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

import pytest

from pytests import Run

INSTALLED = "techo._pytest_plugin" in {
    each.value for each in importlib.metadata.entry_points(group="pytest11")
}
"""Whether this techo was installed with its plugin; a checkout on the path may be newer."""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run pytest on a test file, warnings being errors, with the given plugins."""

    def run(source: str, *arguments: str, ini: Sequence[str] = ()) -> pytest.RunResult:
        pytester.makeini("\n".join(["[pytest]", "filterwarnings = error", *ini]))
        pytester.makepyfile(source)
        plugin = () if INSTALLED else ("-p", "techo._pytest_plugin")
        return pytester.runpytest_inprocess("--strict-markers", *plugin, *arguments)

    return run
