"""Interop: Prometheus' own tool has nothing to say against our metrics."""

from __future__ import annotations

import re
import subprocess
import urllib.request

from helpers import needs, started, wait_until


def test_promtool_finds_nothing_wrong() -> None:
    """Names, units and types follow the conventions that it checks."""
    promtool = needs("promtool")
    with started("--metrics", "0", "127.0.0.1:0") as process:
        assert process.stderr is not None
        lines = [process.stderr.readline().decode() for _ in range(2)]
        found = re.search(r"metrics on (http://\S+)", "".join(lines))
        assert found is not None, lines
        with urllib.request.urlopen(found[1]) as page:  # noqa: S310  -- our own
            text = page.read()
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, check=False
        )
        process.terminate()
        wait_until(lambda: process.poll() is not None, "it ends")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
