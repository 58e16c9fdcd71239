"""Options: how each is made, and how arguments and TECHO_ variables become their values."""

from __future__ import annotations

import argparse
import contextlib
import platform
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import attrs

from techo._cli.output import print_error, print_lines
from techo._cli.readers import FILE, SERVER_NAME, Form
from techo._quantities import HELP
from techo._validation import quoted
from techo.endpoint import DEFAULT_HOST, EVERY_INTERFACE, FORMS, Endpoint, check_connectable

_PREFIX: Final = "TECHO_"
_NEAR: Final = 0.85
"""How alike two variables are, all of which begin alike, to be taken for each other."""

TRACEBACK: Final = "TECHO_TRACEBACK"
"""The variable that asks for the traceback of a bug, whatever its value."""

_WIDTH: Final = 95
"""Columns of the help's paragraphs, as the lines of these files have."""

_Container: TypeAlias = argparse.ArgumentParser | argparse._ActionsContainer  # noqa: SLF001  -- what groups are


@attrs.frozen
class Option:
    """One option, or an argument that has no name; `option` and `switch` make it."""

    names: tuple[str, ...]
    help: str
    form: Form | None
    """None for a switch, which the environment cannot set."""
    default: Any
    repeatable: bool = False
    named: str | None = None
    """What follows TECHO_ in its variable; by default its own name, and nothing if empty."""

    @property
    def positional(self) -> bool:
        """Whether it is an argument without a name."""
        return not self.names[-1].startswith("-")

    @property
    def dest(self) -> str:
        """The name of its value."""
        name = self.names[-1].removeprefix("--").replace("-", "_")
        return name.removeprefix("no_") if self.form is None else name

    @property
    def variable(self) -> str:
        """The variable of the environment that sets it; empty if there is none."""
        name = self.dest if self.named is None else self.named
        return "" if self.form is None or not name else _PREFIX + name.upper()

    def add_to(self, parser: _Container) -> None:
        """Add it to a parser of argparse. It sets nothing unless it is given."""
        keywords: dict[str, Any] = {"help": self.help.replace("%", "%%")}
        if not self.positional:
            keywords |= {"dest": self.dest, "default": argparse.SUPPRESS}
        if self.form is None:
            keywords["action"] = "store_false" if self.default else "store_true"
        else:
            keywords |= {"metavar": self.form.metavar, "type": _explaining(self.form.read)}
            if self.positional:
                keywords["nargs"] = "*" if self.repeatable else "?"
            elif self.repeatable:
                keywords["action"] = "append"
        parser.add_argument(*self.names, **keywords)

    def read_variable(self, text: str) -> Any:
        """Read the value of its variable.

        Raises:
            ValueError: the text has the value and what would be right.
        """
        assert self.form is not None  # noqa: S101  -- it has a variable
        if self.form.read_variable is not None:
            return self.form.read_variable(text)
        if not self.repeatable:
            return self.form.read(text)
        return [self.form.read(each) for each in (text.split() if self.positional else [text])]


def option(
    names: str,
    form: Form,
    help: str,  # noqa: A002  -- as argparse calls it
    *,
    default: Any = None,
    shown: str | None = None,
    repeatable: bool = False,
    named: str | None = None,
) -> Option:
    """Return an option that takes a value; its help ends in the default.

    `shown` is what help says of a default that is no value, or empty if there is none.
    """
    if shown is None:
        shown = form.write(default)
    again = "repeatable; " * (repeatable and names.startswith("-"))
    text = help + f" ({again}default: {shown})" * bool(shown)
    if repeatable and default is None:
        default = ()
    return Option(tuple(names.split()), text, form, default, repeatable, named)


def switch(names: str, help: str, *, default: bool = False) -> Option:  # noqa: A002  -- likewise
    """Return an option without a value, which turns its default into the opposite."""
    return Option(tuple(names.split()), help, None, default)


@attrs.frozen
class Group:
    """Options that help shows together, or of which at most one can be given."""

    title: str
    options: Sequence[Option | Group]
    exclusive: bool = False


@attrs.frozen
class Command:
    """One command: its help, its options and what runs it."""

    name: str
    usage: str
    """What follows its name."""
    description: str
    options: Sequence[Option | Group]
    run: Callable[[argparse.Namespace], int]
    """Returns the exit code, or minus the number of the signal that ends the process."""
    variables: str
    """Examples of variables that set options, for help."""
    notes: str = ""
    """The paragraphs of help after the options."""

    @property
    def all_options(self) -> Iterator[Option]:
        """Its options without their groups."""
        return _flat(self.options)


def _flat(options: Iterable[Option | Group]) -> Iterator[Option]:
    for each in options:
        if isinstance(each, Group):
            yield from _flat(each.options)
        else:
            yield each


def _read_endpoints(text: str) -> Endpoint:
    """Read a variable that servers may share: a client connects to the first that it can.

    Raises:
        ValueError: one is none, or all of them are for servers only.
    """
    for each in [Endpoint.parse(word) for word in text.split()]:
        # A server there listens on this machine's own address too.
        host = DEFAULT_HOST if each.host == EVERY_INTERFACE else each.host
        with contextlib.suppress(ValueError):
            return check_connectable(attrs.evolve(each, host=host), None, None)
    raise ValueError("none of these can be connected to; name host and port")


ENDPOINT: Final = option(
    "endpoint",
    Form("ENDPOINT", Endpoint.parse, read_variable=_read_endpoints),
    f"where the server is: {FORMS.removesuffix(', fd:N')}",
    default=Endpoint(),
)

CLIENT: Final = (
    ENDPOINT,
    Group(
        "tls endpoints",
        (
            Group(
                "",
                (
                    option(
                        "--tls-ca",
                        FILE,
                        "PEM certificates to trust",
                        shown="those that the system trusts",
                    ),
                    switch("--tls-insecure", "accept any certificate (insecure)"),
                ),
                exclusive=True,
            ),
            option(
                "--tls-server-name",
                SERVER_NAME,
                "the name that the server's certificate must have",
                shown="the host",
            ),
            option(
                "--tls-cert",
                FILE,
                "PEM certificate to show to a server that asks for one; its variable is "
                "TECHO_TLS_CLIENT_CERT",
                shown="none",
                named="tls_client_cert",
            ),
            option(
                "--tls-key",
                FILE,
                "its PEM key; its variable is TECHO_TLS_CLIENT_KEY",
                shown="in the same file",
                named="tls_client_key",
            ),
        ),
    ),
)
"""The options of every client command: where the server is, and TLS."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(
    command: Command, arguments: Sequence[str], environment: Mapping[str, str]
) -> argparse.Namespace:
    """Read the arguments of a command, and for what they leave out, the environment.

    `given` lists the options that the arguments themselves set.

    Raises:
        SystemExit: with 2 after one line about what is wrong, or with 0 after help.
    """
    parser = _parser(command)
    # Before the environment: --help does not wait for a valid one.
    given = vars(parser.parse_intermixed_args(arguments))
    options = argparse.Namespace()
    for each in command.all_options:
        if each.positional and not given.get(each.dest):
            given.pop(each.dest, None)  # argparse sets these, given or not
        value = each.default
        text = environment.get(each.variable, "")
        if text.strip() and each.dest not in given:  # empty is unset
            try:
                value = each.read_variable(text)
            except ValueError as error:
                parser.error(f"{each.variable}={quoted(text)}: {error}")
        setattr(options, each.dest, given.get(each.dest, value))
    options.given = sorted(given)
    return options


def _parser(command: Command) -> _Parser:
    parser = _Parser(
        prog="techo" if command.name == "serve" else f"techo {command.name}",
        usage=f"%(prog)s {command.usage}",
        description=command.description,
        epilog="\n\n".join(filter(None, _paragraphs(command))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help="print versions and exit",
    )
    _add(parser, command.options)
    return parser


def _add(parser: _Container, options: Iterable[Option | Group]) -> None:
    for each in options:
        if isinstance(each, Option):
            each.add_to(parser)
        elif each.exclusive:
            _add(parser.add_mutually_exclusive_group(), each.options)
        else:
            _add(parser.add_argument_group(each.title), each.options)


def _paragraphs(command: Command) -> Iterator[str]:
    yield command.notes
    yield _filled(" ".join(_quantities(command)))
    yield _filled(_environment(command))


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _quantities(command: Command) -> Iterator[str]:
    """Return how the values are written that the help of its options names."""
    words = {
        word
        for each in command.all_options
        for word in re.findall("[A-Z]+", f"{each.form and each.form.metavar} {each.help}")
    }
    return (text for word, text in HELP.items() if word in words)


def _environment(command: Command) -> str:
    text = (
        "Options that take a value can also be set in the environment, such as "
        f"{command.variables}. An option on the command line wins; an empty variable is none."
    )
    if any(each is ENDPOINT for each in command.all_options):
        text += " TECHO_TLS_... apply to tls endpoints and are ignored for others."
    return text


def warn_of_unknown(
    command: Command, environment: Mapping[str, str], others: Callable[[], Iterable[Command]]
) -> None:
    """Report variables that begin like ours, and that no command knows; misspelt, maybe."""
    found = {name for name, text in environment.items() if text and name.startswith(_PREFIX)}
    found -= {each.variable for each in command.all_options} | {TRACEBACK}
    if not found:
        return
    import difflib

    known = {each.variable for other in others() for each in other.all_options} - {""}
    unknown = sorted(found - known)
    if unknown:
        near = [difflib.get_close_matches(name, known, 1, _NEAR) for name in unknown]
        hints = sorted({name for names in near for name in names})
        hint = f"; did you mean {', '.join(hints)}?" if hints else ""
        print_error(f"techo: warning: no command knows {', '.join(unknown)}{hint}")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version  # a third of the time that --help takes

        techo, trio = map(version, ("techo", "trio"))
        print_lines(f"techo {techo}, trio {trio}, Python {platform.python_version()}")
        parser.exit()


def _explaining(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Keep the words of a `ValueError`, which argparse would replace by its own."""

    def explained(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return explained


def flag(name: str) -> str:
    """Return the option that sets `name`."""
    return "--" + name.replace("_", "-")
