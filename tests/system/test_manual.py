"""The manual page as man(1) sets it: without a warning, at any width."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from helpers import PATIENCE, needs
from techo._cli.manual import manual


@pytest.mark.parametrize("width", ["60", "80"])
def test_man_sets_the_page_without_a_warning(tmp_path: Path, width: str) -> None:
    """Every kind of warning that groff knows is wanted, and there is none."""
    page = tmp_path / "techo.1"
    page.write_text(manual())
    needs("groff")
    done = subprocess.run(
        [needs("man"), "--warnings=w", "--local-file", str(page)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env=os.environ | {"MANWIDTH": width, "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
    )
    assert done.stderr == ""
    assert "--fail-if RULE" in done.stdout
    assert "delay=TIME[~TIME]" in done.stdout
