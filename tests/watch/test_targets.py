"""Targets of watch: which are refused, and which are the same."""

from __future__ import annotations

import re
import ssl
from typing import Any

import pytest
import trio

import techo
from techo._watch.targets import Thresholds, WatchTarget


async def connect() -> trio.abc.Stream:
    """Connect to nothing; nobody calls this here."""
    await trio.lowlevel.checkpoint()
    raise OSError("nothing is there")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"endpoint": "nowhere:x"}, "bad endpoint 'nowhere:x': port 'x' is not a number"),
        ({"endpoint": "*:8009"}, "* and port 0 are for servers"),
        ({"endpoint": "fd:3"}, "can't connect to fd:3"),
        ({"endpoint": "udp://8009", "connect": True}, "connecting to udp://127.0.0.1:8009"),
        ({"server_name": "x"}, "is not tls, and takes neither tls nor server_name"),
        ({"endpoint": connect, "server_name": "x"}, "takes neither tls nor server_name"),
        ({"endpoint": "unix:/x", "options": techo.SocketOptions(ttl=3)}, "no IP packets"),
        ({"options": None}, "options None is not a techo.SocketOptions"),
        ({"thresholds": 3}, "thresholds 3 is not a techo.Thresholds"),
        ({"name": ""}, "name '' is not a text of 1 to 300 characters that can be printed"),
        ({"name": "a\nb"}, r"name 'a\nb' is not a text of 1 to 300 characters"),
        ({"group": "g" * 301}, "is not a text of 0 to 300 characters"),
        ({"labels": ["site"]}, "labels ['site'] is not a mapping of names to texts"),
        ({"labels": {"a-b": "c"}}, "labels: 'a-b' is not a name of letters, digits and _"),
        ({"labels": {"__a": "c"}}, "labels: '__a' is not a name"),
        ({"labels": {"site": 3}}, "labels: site 3 is not a text"),
        ({"labels": {f"l{n}": "" for n in range(21)}}, "labels: 21 are too many; 20 are"),
        ({"interval": 0}, "interval 0 is not a number of seconds above 0"),
        ({"timeout": float("inf")}, "timeout inf is not a number of seconds above 0"),
        ({"size": 0}, "size 0 is not a whole number from 1"),
        ({"rules": "p99>5ms"}, "rules 'p99>5ms' is one text; write ['p99>5ms']"),
        ({"rules": ["p98>5ms"]}, "rule 'p98>5ms', character 1: no figure 'p98'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], text: str) -> None:
    """The error has the field, its value and what would be right."""
    with pytest.raises(ValueError, match=re.escape(text)):
        WatchTarget(**{"endpoint": "8009", **fields})


def test_what_is_no_endpoint_is_another_error() -> None:
    """As in ping: that is a mistake of the program, not of what it was given."""
    with pytest.raises(TypeError, match="target 5 is no endpoint"):
        WatchTarget(endpoint=5)


def test_thresholds_are_whole_numbers() -> None:
    """The error has the name of the one that is not."""
    with pytest.raises(ValueError, match="up_after 0 is not a whole number from 1 to 1000"):
        Thresholds(up_after=0)


def test_a_target_is_named_after_its_endpoint() -> None:
    """The name is the endpoint's canonical text, and its kind that of the endpoint."""
    target = WatchTarget(endpoint="udp://LOCALHOST:7")
    assert (target.name, target.kind) == ("udp://localhost:7", "udp")
    assert WatchTarget(endpoint=connect, name="mine").kind == "function"


def test_targets_that_mean_the_same_are_equal() -> None:
    """A file that is read again has contexts and rules of its own, which mean the same."""

    def read(key: object = "ca.pem", **fields: Any) -> WatchTarget:
        context = ssl.create_default_context()
        return WatchTarget(endpoint="tls://localhost:7", tls=context, tls_key=key, **fields)

    assert read(rules=["p99>5ms"]) == read(rules=["p99>5ms"])
    assert read() != read("other.pem")
    assert read() != read(interval=2.0)
    assert read() != read(thresholds=Thresholds(down_after=4))
    assert read(rules=["p99>5ms"]) != read(rules=["p99>6ms"])


def test_without_a_key_a_context_stands_for_itself() -> None:
    """Two contexts may differ in anything, so that only the same one is equal."""
    one, other = ssl.create_default_context(), ssl.create_default_context()
    first = WatchTarget(endpoint="tls://localhost:7", tls=one)
    assert first == WatchTarget(endpoint="tls://localhost:7", tls=one)
    assert first != WatchTarget(endpoint="tls://localhost:7", tls=other)
