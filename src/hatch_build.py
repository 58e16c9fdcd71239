"""The build's own step: makes the manual page, which a wheel installs where man(1) looks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPage(BuildHookInterface[Any]):
    """Writes techo.1 from the tables of the commands, so that it is never out of date."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the page, and say where it goes."""
        del version  # as it is for an editable install, too
        sys.path.insert(0, str(Path(self.root, "src")))
        from techo._cli.manual import manual

        self._folder = tempfile.TemporaryDirectory()
        page = Path(self._folder.name, "techo.1")
        page.write_text(manual(), "utf-8")
        build_data["shared_data"][str(page)] = "share/man/man1/techo.1"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was only needed until it was packed."""
        del version, build_data, artifact_path
        self._folder.cleanup()
