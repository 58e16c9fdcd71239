"""Options: how each is made, and what a command is made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs

from techo._cli.commands import SUMMARIES
from techo._cli.endpoints import check_ports, read_variable
from techo._cli.readers import FILE, SERVER_NAME, Form
from techo._printable import quoted
from techo._protocols import ANY_PROTOCOL
from techo.endpoint import CONNECTABLE_FORMS, PING_FORMS, Endpoint

PREFIX: Final = "TECHO_"
"""What all variables of the environment begin with."""

TRACEBACK: Final = "TECHO_TRACEBACK"
"""The variable that asks for the traceback of a bug, whatever its value."""

Container: TypeAlias = argparse.ArgumentParser | argparse._ActionsContainer  # noqa: SLF001  -- what groups are


@attrs.frozen
class Option:
    """One option, or an argument that has no name; `option` and `switch` make it."""

    names: tuple[str, ...]
    help: str
    form: Form | None
    """None for a switch, which the environment cannot set."""
    default: Any
    repeatable: bool = False
    several: bool = False
    """Whether it takes several values at once, as a shell's pattern gives them."""
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
        return "" if self.form is None or not name else PREFIX + name.upper()

    @property
    def written(self) -> str:
        """How it is written, for help."""
        assert self.form is not None or not self.positional  # noqa: S101  -- `option` made it
        names = ", ".join(self.names)
        if self.form is None:
            return names
        if self.positional:
            return self.form.metavar
        return f"{names} {self.form.metavar}" + "..." * self.several

    def add_to(self, parser: Container) -> None:
        """Add it to a parser of argparse. It sets nothing unless it is given."""
        keywords: dict[str, Any] = {"dest": self.dest, "default": argparse.SUPPRESS}
        if self.positional:  # whose texts are read when all of them are there
            parser.add_argument(self.dest, nargs="*", default=argparse.SUPPRESS)
            return
        if self.form is None:
            keywords["action"] = "store_false" if self.default else "store_true"
        else:
            keywords["type"] = _explaining(self.form.read)
            if self.several:
                keywords |= {"action": "extend", "nargs": "+"}
            elif self.repeatable:
                keywords["action"] = "append"
        parser.add_argument(*self.names, **keywords)

    def read(self, texts: Sequence[str]) -> Any:
        """Read the texts of an argument that has no name.

        Raises:
            ValueError: one of them is wrong, or there are too many.
        """
        assert self.form is not None  # noqa: S101  -- no switch is without a name
        if self.form.check is not None:
            self.form.check(texts)
        if self.repeatable:
            return [self.form.read(each) for each in texts]
        if len(texts) > 1:
            raise ValueError(f"{quoted(texts[1])} is one too many")
        return self.form.read(texts[0])

    def read_variable(self, text: str) -> Any:
        """Read the value of its variable.

        Raises:
            ValueError: the text has the value and what would be right.
        """
        assert self.form is not None  # noqa: S101  -- it has a variable
        if self.form.read_variable is not None:
            return self.form.read_variable(text)
        if self.positional:
            return self.read(text.split())
        return [self.form.read(text)] if self.repeatable else self.form.read(text)


def option(
    names: str,
    form: Form,
    help: str,  # noqa: A002  -- as argparse calls it
    *,
    default: Any = None,
    shown: str | None = None,
    repeatable: bool = False,
    several: bool = False,
    named: str | None = None,
) -> Option:
    """Return an option that takes a value; its help ends in the default.

    `shown` is what help says of a default that is no value, or empty if there is none.
    """
    if shown is None:
        shown = form.write(default)
    again = "repeatable; " * (repeatable and names.startswith("-"))
    text = help + f" ({again}default: {shown})" * bool(shown)
    if (repeatable or several) and default is None:
        default = ()
    return Option(tuple(names.split()), text, form, default, repeatable, several, named)


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
    """How it is called, without the name of the program."""
    description: str
    """The paragraphs of help after the summary."""
    options: Sequence[Option | Group]
    run: Callable[[argparse.Namespace], int]
    """Returns the exit code, or minus the number of the signal that ends the process."""
    variables: str = ""
    """An example of a variable that sets an option, for help; empty if there is none."""
    examples: Sequence[tuple[str, str]] = ()
    """Command lines, and what they do."""
    exits: Sequence[tuple[str, str]] = ()
    """Exit codes, and what they mean."""
    notes: str = ""
    """The paragraphs of help after the options."""
    chapters: Sequence[str] = ()
    """Chapters that have more about it."""

    @property
    def summary(self) -> str:
        """What it is for, in a few words."""
        return SUMMARIES.get(self.name, "")

    @property
    def all_options(self) -> Iterator[Option]:
        """Its options without their groups."""
        return flat(self.options)


def flat(options: Iterable[Option | Group]) -> Iterator[Option]:
    """Return options without their groups."""
    for each in options:
        if isinstance(each, Group):
            yield from flat(each.options)
        else:
            yield each


ENDPOINT: Final = option(
    "endpoint",
    Form("ENDPOINT", Endpoint.parse, read_variable=read_variable, check=check_ports),
    f"where the server is: {CONNECTABLE_FORMS}",
    default=Endpoint(),
)

PINGED: Final = option(
    "endpoint",
    Form(
        "ENDPOINT",
        Endpoint.parse,
        read_variable=lambda text: [read_variable(text)],
        check=check_ports,
    ),
    f"where the server is: {PING_FORMS}",
    repeatable=True,
    default=[],
    shown=str(Endpoint()),
)
"""The same, for ping, which may have several."""

ANY: Final = switch(
    ANY_PROTOCOL,
    "let ip endpoints have another protocol than 253 and 254, which somebody may use already",
)

TLS: Final = (
    Group(
        "TLS endpoints",
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
"""The options of every client command about TLS."""

CLIENT: Final = (ENDPOINT, *TLS)
"""The options of every client command but ping: where the server is, and TLS."""


def flag(name: str) -> str:
    """Return the option that sets `name`."""
    return "--" + name.replace("_", "-")


def _explaining(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Keep the words of a `ValueError`, which argparse would replace by its own."""

    def explained(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return explained


def setter(options: argparse.Namespace, name: str) -> str:
    """Return what has set `name`, as the user knows it: the option or its variable."""
    found: str = options.variables.get(name, flag(name))
    return found
