"""Chapters: what they list is what there is, and each can be read."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import techo
from documents import CHAPTERS, DOCS, README, RECIPES, chapter, sentences
from helpers import call
from techo import testing
from techo._faults.text import _FORMS, parse_fault
from techo._faults.values import Fault
from techo._server.datagrams import ANSWERING_PORTS

MOST_WORDS = 30
NAMES = [path.stem for path in CHAPTERS]
every_chapter = pytest.mark.parametrize("name", NAMES)
every_page = pytest.mark.parametrize(
    "path", [README, *CHAPTERS], ids=lambda path: path.stem.lower()
)


def test_all_chapters_are_there() -> None:
    """Those that the README promises, and the tour."""
    promised = set(re.findall(r"\]\(src/techo/docs/(\w+)\.md\)", README.read_text()))
    assert promised == set(NAMES)
    assert len(promised) >= 13


@every_chapter
def test_a_chapter_says_first_what_it_is_for(name: str) -> None:
    """A heading, an empty line, and one sentence on one line."""
    heading, empty, purpose, after, *_ = chapter(name).splitlines()
    assert re.fullmatch(r"# \S.*", heading)
    assert not empty
    assert not after or name == "tour"
    assert purpose.endswith(".")
    assert len(purpose) <= 120
    prose = re.sub(r"^```.*?^```$", "", chapter(name), flags=re.DOTALL | re.MULTILINE)
    assert prose.count("\n# ") == 0


@every_page
def test_no_sentence_is_long(path: Path) -> None:
    """None has more than 30 words."""
    for sentence in sentences(path.read_text()):
        assert len(sentence.split()) <= MOST_WORDS, sentence


@every_page
def test_every_link_leads_somewhere(path: Path) -> None:
    """Every link to a file and to a heading of the same page; others are not looked up."""
    text = path.read_text()
    headings = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (path.parent / target).exists(), target


@every_chapter
def test_every_chapter_that_one_names_exists(name: str) -> None:
    """Where one refers to another, that is there."""
    for other in re.findall(r"chapters? `(\w+)`", chapter(name)):
        assert other in NAMES


def test_every_file_that_a_chapter_names_exists() -> None:
    """Of the code, in the chapter on it."""
    text = chapter("architecture")
    rooms = re.findall(r"`(?:src/techo/)?(\w+/)`", text)
    files = re.findall(r"`(?:src/techo/)?(_\w+/\w+\.py)`", text)
    assert len(rooms) >= 10
    assert len(files) >= 5
    for each in (*rooms, *files):
        assert (DOCS.parent / each).exists(), each


def test_every_public_name_is_in_a_chapter() -> None:
    """The table of the library leaves nothing out."""
    text = chapter("library")
    assert not [name for name in techo.__all__ if not re.search(rf"\b{name}\b", text)]


@pytest.mark.parametrize("name", ["open_client", "ping", "load", "capacity", "compare"])
def test_the_library_lists_what_a_function_takes(name: str) -> None:
    """Every parameter is there, with its default."""
    (listed,) = re.findall(rf"^\| `{name}\((.*?)\)`", chapter("library"), re.MULTILINE)
    parameters = inspect.signature(getattr(techo, name)).parameters.values()
    expected = [
        each.name
        if each.default is each.empty
        else f"{each.name}={repr(each.default).removesuffix('.0')}"
        for each in parameters
    ]
    assert listed.split(", ") == expected


def test_every_name_for_tests_is_in_a_chapter() -> None:
    """Those for checks, faults and memory have a chapter each."""
    text = chapter("test") + chapter("faults") + chapter("check")
    assert not {name for name in testing.__all__ if not re.search(rf"\b{name}s?\b", text)}


@pytest.mark.parametrize("word", [*techo.Outcome, *techo.DropReason])
def test_every_outcome_is_in_a_chapter(word: str) -> None:
    """The tables of behaviour leave none out."""
    assert f"`{word}`" in chapter("behaviour")


def test_every_port_that_is_not_answered_is_in_a_chapter() -> None:
    """They are in the table of datagrams."""
    *most, last = sorted(ANSWERING_PORTS)
    words = f"comes from port {', '.join(map(str, most))} or {last}, whose"
    assert words in chapter("behaviour")


@pytest.mark.parametrize("word", list(techo.FailureCause))
def test_every_cause_is_in_a_chapter(word: str) -> None:
    """The table of ping says what each means."""
    assert f"| `{word}` |" in chapter("ping")


@pytest.mark.parametrize("kind", [form.kind for form in _FORMS.values()])
def test_every_fault_is_in_a_chapter(kind: type[Fault]) -> None:
    """As a value and as text, which mean the same."""
    table = chapter("faults").partition("| value | text |")[2].partition("\n\n")[0]
    assert f"`{kind.__name__}(" in table
    texts = re.findall(r"`([a-z-]+(?:[=,][^` ]+)?)`", table)
    written = {text for text in texts if text.partition("=")[0].partition(",")[0] in _FORMS}
    assert kind in {type(parse_fault(text)) for text in written}


def test_help_and_chapters_have_the_same_defaults() -> None:
    """Figures in the tables are the ones that help prints."""
    _, out, _ = call("serve", "--help")
    text = " ".join(out.decode().split())
    for option, default in [
        ("idle_timeout", "60 s"),
        ("close_timeout", "1 s"),
        ("drain_timeout", "5 s"),
        ("lifetime", "off"),
    ]:
        assert f"`{option}` ({default})" in chapter("behaviour")
        meaning = text.split("--" + option.replace("_", "-"))[-1]
        written = default.replace(" ", "")
        assert re.match(rf"[^(]*\(default: {written}\)", meaning)


def test_every_bound_on_strangers_has_its_test() -> None:
    """The table names tests that there are."""
    named = re.findall(r"\| (\S+\.py)::(\w+) \|$", chapter("operate"), re.MULTILINE)
    assert len(named) > 10
    tests = Path(__file__).parent.parent
    for file, name in named:
        assert re.search(rf"^(async )?def {name}\(", (tests / file).read_text(), re.MULTILINE)


def test_every_recipe_is_in_its_chapter() -> None:
    """The table names the files that there are."""
    named = re.findall(r"^\| `recipes/(\S+)` \|", chapter("recipes"), re.MULTILINE)
    assert sorted(named) == [each.name for each in RECIPES]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_printed_as_it_is(path: Path) -> None:
    """What help prints is the file, so that it can be redirected into one."""
    code, out, err = call("help", f"recipes/{path.name}")
    assert (code, out, err) == (0, path.read_bytes(), "")
