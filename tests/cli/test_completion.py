"""Completion: bash completes techo's command lines, asked as it asks at TAB."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from completions import TYPED, ask, prepare
from helpers import call
from techo._cli.commands import COMMANDS

BASH = shutil.which("bash") or pytest.skip("there is no bash", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files, and the scripts of the shells beside it."""
    return prepare(tmp_path_factory.mktemp("completion"))


@pytest.mark.parametrize(("typed", "word"), TYPED)
def test_bash_completes(typed: str, word: str, folder: Path) -> None:
    """The function that it calls at TAB finds the one word that fits."""
    # Where it breaks words (COMP_WORDBREAKS), the character is one of its own.
    words = re.sub("(:(?=//)|=)", r" \1 ", typed).split(" ")
    asked = f"""
        source ../bash
        COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}
        $(complete -p techo | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """.replace("$(complete", "function=$(complete").replace("/\\1/')", "/\\1/'); $function")
    assert ask([BASH, "-c", asked], folder).split() == [word]


def test_bash_completes_a_value_that_goes_on(folder: Path) -> None:
    """Nothing is offered again behind a fault; without word breaks the word is whole."""
    asked = """
        source ../bash
        COMP_WORDS=(techo --fault delay =) COMP_CWORD=3; _techo; echo "${COMPREPLY[@]}"
        COMP_WORDS=(techo --reply =) COMP_CWORD=2; _techo; echo "${COMPREPLY[@]}"
        COMP_WORDBREAKS=
        COMP_WORDS=(techo --reply=s) COMP_CWORD=1; _techo; echo "${COMPREPLY[@]}"
    """
    assert ask([BASH, "-c", asked], folder).splitlines() == [
        "",
        "stamped raw",
        "--reply=stamped",
    ]


def test_bash_offers_every_command(folder: Path) -> None:
    """There is nothing else in the first place, until a dash is typed."""
    asked = "source ../bash; COMP_WORDS=(techo '') COMP_CWORD=1; _shtab_techo; "
    asked += "echo ${COMPREPLY[@]}"
    assert ask([BASH, "-c", asked], folder).split() == list(COMMANDS)


def test_the_shell_must_be_named() -> None:
    """Without it, and with one that is not known, one line says which there are."""
    for arguments in ([], ["csh"]):
        code, out, err = call("completion", *arguments)
        assert (code, out) == (2, b"")
        assert "bash" in err
        assert "zsh" in err
        assert "fish" in err
