"""Other shells: fish and zsh complete techo's command lines, too."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from completions import TYPED, ask, prepare
from helpers import PATIENCE, needs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files, and the scripts of the shells beside it."""
    return prepare(tmp_path_factory.mktemp("completion"))


@pytest.mark.parametrize(("typed", "word"), TYPED)
def test_fish_completes(typed: str, word: str, folder: Path) -> None:
    """It finds the one word that fits, to which OPTION=VALUE belongs as a whole."""
    asked = f"source ../fish; complete -C {shlex.quote(typed)}"
    found = ask([needs("fish"), "--no-config", "-c", asked], folder).splitlines()
    option, equals, _ = typed.rsplit(" ", maxsplit=1)[-1].rpartition("=")
    assert [line.split("\t")[0] for line in found] == [option + equals + word]


def test_zsh_completes(folder: Path) -> None:
    """At TAB on a terminal, it shows the one word that fits."""
    master, slave = pty.openpty()
    popen = subprocess.Popen(
        [needs("zsh"), "-f", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        cwd=folder,
        env=os.environ | {"TERM": "dumb"},
    )
    os.close(slave)

    def read_until(text: str) -> None:
        found, end = "", time.monotonic() + PATIENCE
        while text not in found:
            assert time.monotonic() < end, found
            assert select.select([master], [], [], PATIENCE)[0], found
            found += os.read(master, 65536).decode(errors="replace")

    with popen:
        try:
            asked = "unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; "
            asked += 'eval "$(cat ../zsh)"; echo load""ed\n'
            os.write(master, asked.encode())
            read_until("loaded\r\n")
            for typed, word in TYPED:
                os.write(master, f"{typed}\t".encode())
                read_until(word)  # in its place, or below with what it is for
                os.write(master, b"\x15")  # Ctrl-U: the line is given up
        finally:
            popen.kill()
            os.close(master)
