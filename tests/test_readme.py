"""The README: its examples run, its commands are the ones that CI runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import techo
from helpers import PATIENCE, call, serving
from techo import testing
from techo._faults.text import _FORMS, parse_fault
from techo._faults.values import Fault
from techo._server.datagrams import ANSWERING_PORTS

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run_example(word: str) -> bytes:
    """Run the one example that has `word` in it, as printed; give what it prints."""
    (example,) = [each for each in EXAMPLES if word in each]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        capture_output=True,
        timeout=4 * PATIENCE,
        check=True,
    )
    return done.stdout


def test_the_client_example_prints_what_it_should() -> None:
    """As printed: a round trip inside a block."""
    assert run_example("open_client") == b"b'hello' True\n"


def test_the_embedding_example_serves() -> None:
    """As printed, but for the port: five lines are a whole server."""
    (example,) = [each for each in EXAMPLES if "serve_tcp" in each]
    assert len([line for line in example.splitlines() if line]) <= 5
    code = example.replace("trio.run(trio.serve_tcp, service.handle, 8009)", EMBEDDING)
    assert code != example
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        timeout=4 * PATIENCE,
        check=True,
    )
    assert re.fullmatch(rb"\[.{24}\] hello\n", done.stdout)


EMBEDDING = """
async def main():
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, service.handle, 0)
        port = listeners[0].socket.getsockname()[1]
        async with techo.open_client(f"127.0.0.1:{port}") as client:
            print((await client.round_trip(b"hello")).reply.decode())
        nursery.cancel_scope.cancel()
trio.run(main)
"""


def test_every_name_for_tests_is_in_the_readme() -> None:
    """The section on testing leaves nothing out."""
    missing = {name for name in testing.__all__ if f"{name}" not in README}
    assert not missing


def test_every_public_name_is_in_the_readme() -> None:
    """The table of the library leaves nothing out."""
    missing = {name for name in techo.__all__ if f"`{name}" not in README}
    assert missing <= {"EchoClient", "Reply", "RoundTrip", "EchoMismatch", "ShortReply"}
    assert all(name in README for name in ("RoundTrip", "EchoMismatch", "ShortReply"))


@pytest.mark.parametrize("word", [*techo.Outcome, *techo.DropReason])
def test_every_outcome_is_in_the_readme(word: str) -> None:
    """The tables of what happens when leave none out."""
    assert f"`{word}`" in README


def test_every_port_that_is_not_answered_is_in_the_readme() -> None:
    """In the table of what happens when."""
    *most, last = sorted(ANSWERING_PORTS)
    assert f"comes from port {', '.join(map(str, most))} or {last}, whose" in README


@pytest.mark.parametrize("word", list(techo.FailureCause))
def test_every_cause_is_in_the_readme(word: str) -> None:
    """In the table that says what each means."""
    assert f"| `{word}` |" in README


@pytest.mark.parametrize("kind", [form.kind for form in _FORMS.values()])
def test_every_fault_is_in_the_readme(kind: type[Fault]) -> None:
    """As a value and as text, which mean the same; and in help."""
    assert f"`{kind.__name__}(" in README
    table = README.partition("| value | text |")[2].partition("\n\n")[0]
    texts = re.findall(r"`([a-z-]+(?:[=,][^` ]+)?)`", table)
    written = {text for text in texts if text.partition("=")[0].partition(",")[0] in _FORMS}
    assert kind in {type(parse_fault(text)) for text in written}


def test_the_checking_example_passes() -> None:
    """As printed: techo is an echo service."""
    assert re.fullmatch(rb"True \d+\n", run_example("check_echo_service"))


def test_the_ping_example_prints_what_it_should() -> None:
    """As printed: three replies, nothing lost."""
    assert run_example("techo.ping(") == b"1 True\n2 True\n3 True\n0.0\n"


def test_the_load_example_prints_what_it_should() -> None:
    """As printed: every trip came back, without an error."""
    assert run_example("techo.load(") == b"1000 {} True\n"


@pytest.mark.parametrize("title", ["Ping", "Load"])
def test_every_field_of_json_is_in_the_readme(title: str) -> None:
    """In the table of its chapter."""
    chapter = README.partition(f"## {title} any echo service")[2].partition("\n## ")[0]
    with serving() as process:
        arguments = [title.lower(), "--json", "-n", "5", str(process.port)]
        _, out, _ = call(*arguments)
    for line in out.splitlines():
        for name in json.loads(line):
            assert re.search(rf"`{name}[`{{]", chapter) or name in {"schema", "event"}


def test_the_testing_example_passes(tmp_path: Path) -> None:
    """As printed: ten lines find out whether a client notices."""
    (example,) = [each for each in EXAMPLES if "autojump_clock" in each]
    (tmp_path / "test_example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        capture_output=True,
        timeout=4 * PATIENCE,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout.decode()
    assert b"4 passed" in done.stdout


def test_help_and_readme_tell_the_same_defaults() -> None:
    """Figures in the README's tables are the ones that help prints."""
    _, out, _ = call("serve", "--help")
    text = " ".join(out.decode().split())
    for option, default in [
        ("idle_timeout", "60 s"),
        ("close_timeout", "1 s"),
        ("drain_timeout", "5 s"),
        ("lifetime", "off"),
    ]:
        assert f"`{option}` ({default})" in README
        meaning = text.split("--" + option.replace("_", "-"))[-1]
        written = default.replace(" ", "")
        assert re.match(rf"[^(]*\(default: {written}\)", meaning)
