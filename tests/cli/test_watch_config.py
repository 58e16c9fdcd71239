"""The file of watch: what it means, and that every mistake in it has its line and its key."""

from __future__ import annotations

import errno
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

import techo
from documents import blocks, chapter, recipe
from techo._cli.packets import check_privileges
from techo._cli.watch_config import MOST, ConfigError, check_config
from techo._cli.watch_keys import OF_A_TARGET, OF_ALL
from techo._kernel.options import SocketOptionError
from techo._rules import WATCH
from techo._watch.targets import Thresholds, WatchTarget
from toml_texts import written

Read: TypeAlias = Callable[[str], tuple[WatchTarget, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return what checks a text as the file ``watch.toml``."""

    def check(text: str) -> tuple[WatchTarget, ...]:
        path = tmp_path / "watch.toml"
        path.write_text(text)
        return check_config(str(path))

    return check


def mistakes(read: Read, text: str) -> list[str]:
    """Return what is said of a file with mistakes, without the folder."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).splitlines() == caught.value.lines
    return [each.rpartition("/watch.toml:")[2] for each in caught.value.lines]


def test_a_target_needs_its_endpoint_alone(read: Read) -> None:
    """The rest is as in the library, and so as in ping; editors may begin with a mark."""
    for mark in ("", "\ufeff"):
        assert read(f'{mark}[[target]]\nendpoint = "udp://localhost:7"\n') == (
            WatchTarget(endpoint="udp://localhost:7"),
        )


def test_every_key_means_what_the_option_of_ping_does(read: Read) -> None:
    """Times and sizes are written in the same way, with or without quotes."""
    (target,) = read(
        """
        [[target]]
        endpoint = 8009
        name = "mine"
        group = "some"
        labels = { site = "one", floor = "2" }
        interval = "500ms"
        timeout = 0.25
        size = "1k"
        rules = ["p99>5ms", "certificate_days<14"]
        down-after = 5
        up-after = 4
        flap-changes = 6
        flap-time = "10m"
        ipv4 = true
        source = "127.0.0.1"
        interface = "lo"
        dscp = "EF"
        ttl = 3
        dont-fragment = true
        send-proxy = "v2"
        """
    )
    assert target == WatchTarget(
        endpoint="8009",
        name="mine",
        group="some",
        labels={"site": "one", "floor": "2"},
        interval=0.5,
        timeout=0.25,
        size=1024,
        rules=["p99>5ms", "certificate_days<14"],
        thresholds=Thresholds(down_after=5, up_after=4, flap_changes=6, flap_seconds=600),
        options=techo.SocketOptions(
            "127.0.0.1",
            ip_version=4,
            interface="lo",
            dscp="EF",
            ttl=3,
            dont_fragment=True,
            send_proxy="v2",
        ),
    )


def test_what_stands_nearer_wins(read: Read) -> None:
    """A target's own, then its group's, then the defaults; labels are added up."""
    near, far = read(
        """
        [defaults]
        interval = "2s"
        timeout = "3s"
        rules = ["loss>1%"]
        labels = { site = "one", team = "a" }
        ipv4 = true
        [group.web]
        timeout = "4s"
        size = 100
        labels = { team = "b" }
        [[target]]
        endpoint = "localhost:1"
        group = "web"
        size = 200
        rules = []
        labels = { floor = "2" }
        ipv6 = true
        [[target]]
        endpoint = "localhost:2"
        """
    )
    assert (near.interval, near.timeout, near.size, near.rules) == (2.0, 4.0, 200, ())
    assert near.labels == {"site": "one", "team": "b", "floor": "2"}
    assert (near.options.ip_version, far.options.ip_version) == (6, 4)
    assert (far.interval, far.timeout, far.size) == (2.0, 3.0, 64)
    assert [each.text for each in far.rules] == ["loss>1%"]


def test_defaults_that_are_not_about_an_endpoint_are_left_out(read: Read) -> None:
    """As what the environment says is in a command: not all targets are of one kind."""
    *others, tcp = read(
        """
        [defaults]
        connect = true
        ttl = 3
        ipv4 = true
        send-proxy = "v1"
        tls-insecure = true
        tls-server-name = "x.example"
        any-protocol = true
        [[target]]
        endpoint = "udp://localhost:1"
        send-proxy = "v2"
        [[target]]
        endpoint = "icmp://localhost"
        [[target]]
        endpoint = "unixgram:/tmp/x"
        [[target]]
        endpoint = "ip://127.0.0.1/99"
        [[target]]
        endpoint = "localhost:2"
        """
    )
    assert not any(each.connect for each in others)
    assert others[2].options == techo.SocketOptions()
    assert (others[0].options.send_proxy, others[1].options.send_proxy) == ("v2", None)
    assert tcp.connect
    assert tcp.options == techo.SocketOptions(ip_version=4, ttl=3, send_proxy="v1")
    assert (tcp.tls, tcp.server_name) == (None, None)


def test_files_are_beside_the_file(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets with the same ones share a context; another file, or a new one, is a change."""
    monkeypatch.chdir("/")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client = authority.issue_cert("client.example")
    client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    text = """
        [defaults]
        tls-ca = "ca.pem"
        tls-server-name = "x.example"
        [[target]]
        endpoint = "tls://localhost:1"
        [[target]]
        endpoint = "tls://localhost:2"
        [[target]]
        endpoint = "tls://localhost:3"
        tls-cert = "client.pem"
        [[target]]
        endpoint = "tls://localhost:4"
        tls-insecure = true
        """
    before = read(text)
    assert before[0].tls is before[1].tls is not None
    assert before[0].server_name == "x.example"
    assert len({id(each.tls) for each in before}) == 3
    assert before[3].tls is not None
    assert before[3].tls.verify_mode is ssl.CERT_NONE
    assert read(text) == before
    os.utime(tmp_path / "client.pem", (1, 1))
    assert [one == two for one, two in zip(read(text), before, strict=True)] == [
        True,
        True,
        False,
        True,
    ]


def test_every_mistake_has_its_line_and_its_key(read: Read) -> None:
    """All of them are reported, in the order of the file, with what would be right."""
    found = mistakes(
        read,
        """\
[defaults]
intervall = "2s"
timeout = true
size = "64kb"
rules = [
  "p99>5ms",
  "los>1%", 5,
]
labels = { site = "a", "b-c" = "d" }
name = "x"
tls-ca = "missing.pem"
ipv4 = true
ipv6 = true
[group.db]
ttl = 300
[[target]]
endpoint = "*:8009"
[[target]]
name = ""
[[target]]
endpoint = "tls://localhost:1"
name = "shop"
group = "dbb"
connect = "yes"
[[target]]
endpoint = "tls://localhost:2"
name = "shop"
connect = true
size = 64
tls-key = "key.pem"
[[target]]
endpoint = "udp://localhost:3"
connect = true
tls-cert = "x"
[[target]]
endpoint = "udp://localhost:3"
[[target]]
endpoint = "unix:/tmp/x"
ttl = 5
[[target]]
endpoint = "ip://127.0.0.1/99"
[[target]]
endpoint = "[::1]:4"
source = "127.0.0.1"
[sever]
a = 1
""",
    )
    expected = [
        "2: defaults.intervall: unknown key; did you mean interval?",
        "3: defaults.timeout: 'true' is not a time, such as 500ms, 2s or 1m",
        "4: defaults.size: '64kb' is not a size, such as 1000, 64k or 1M; write 64k",
        "7: defaults.rules: rule 'los>1%', character 1: no figure 'los': did you mean lost?",
        "7: defaults.rules: 5 is not a text in quotes",
        "9: defaults.labels.b-c: 'b-c' is not a name of letters, digits and _",
        "10: defaults.name: only a target has this",
        "11: defaults.tls-ca: cannot read tls-ca '",
        "13: defaults.ipv6: not together with ipv4",
        "15: group.db.ttl: '300' is not a whole number from 1 to 255",
        "17: target.endpoint: can't connect to tcp://*:8009: * and port 0 are for servers",
        "18: target: its endpoint is missing, as in endpoint = ",
        "19: target.name: '' is not a text of 1 to 300 characters",
        "23: target.group: there is no [group.dbb]; did you mean db?",
        "24: target.connect: 'yes' is not true or false",
        "27: target.name: the target of line 20 is 'shop', too",
        "29: target.size: not together with connect",
        "30: target.tls-key: tls-key is of a certificate: give tls-cert, too",
        "31: target: connecting to udp://localhost:3 shows nothing",
        "34: target.tls-cert: this is for tls endpoints, and udp://localhost:3 is none",
        "36: target.endpoint: the target of line 31 is 'udp://localhost:3', too; give each",
        "39: target.ttl: unix:/tmp/x has no IP packets",
        "41: target.endpoint: ip://127.0.0.1/99: protocol 99 may be in use",
        "43: target.endpoint: ipv4: tcp://[::1]:4 is IPv6",
        "45: sever: unknown table; there are defaults, group, target",
    ]
    for line, begun in zip(found, expected, strict=True):
        assert line.startswith(begun), (line, begun)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "1: target: there is none; begin with [[target]] and its endpoint"),
        ("[target]\nendpoint = 1\n", "1: target: write [[target]], in two brackets"),
        ("a = 1\n[[target]]\nendpoint = \n", "3: Invalid value, character 12"),
        ("target = [5]", "1: target: write [[target]], in two brackets"),
        ("defaults = 3\n[[target]]\nendpoint = 1\n", "1: defaults: write [defaults]"),
        ("group = 3\n[[target]]\nendpoint = 1\n", "1: group: write [group.NAME]"),
        ("[group]\nweb = 3\n[[target]]\nendpoint = 1\n", "2: group.web: write [group.web]"),
        (
            '[[target]]\nendpoint = 1\nlabels = ["a"]\nrules = "p99>5ms"\n',
            '3: target.labels: write { site = "one" }',
        ),
        (
            '[[target]]\nendpoint = 1\ntls-ca = "a\\u0000"\n',
            "3: target.tls-ca: 'a\\x00' is not a text that can be printed",
        ),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(read: Read, text: str, mistake: str) -> None:
    """A table of another kind, or what is no TOML at all, is one line, too."""
    assert mistakes(read, text)[0] == mistake


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """No file, a folder, other bytes, or far too many of them."""
    path = tmp_path / "watch.toml"
    for data, reason in [
        (None, ": No such file or directory"),
        (b"a = 1\n# \xff\n", ":2: this is not UTF-8"),
        (b"#" * (2**24 + 1), ": larger than 16M is no such file"),
    ]:
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            check_config(str(path))
        assert caught.value.lines == [f"{path}{reason}"]
    with pytest.raises(ConfigError, match="Is a directory"):
        check_config(str(tmp_path))


def test_a_file_in_this_folder_is_named_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder is put before what stands in no other one."""
    monkeypatch.chdir(tmp_path)
    Path("here.toml").write_text('[[target]]\nendpoint = "tls://x:1"\ntls-ca = "ca.pem"\n')
    with pytest.raises(ConfigError) as caught:
        check_config("here.toml")
    what = "target.tls-ca: cannot read tls-ca 'ca.pem': No such file or directory"
    assert caught.value.lines == [f"here.toml:3: {what}"]


def test_there_is_a_limit_to_targets(read: Read) -> None:
    """One more is a mistake, and nothing else is said of them."""
    (line,) = mistakes(read, "[[target]]\n" * (MOST + 1))
    assert line == "10001: target: 10,001 are too many; 10,000 are allowed"


def test_there_is_a_pause_after_each_target(tmp_path: Path) -> None:
    """So the loop can go on while a thread reads the file again."""
    path, paused = tmp_path / "watch.toml", list[None]()
    path.write_text("[[target]]\nendpoint = 1\n[[target]]\nendpoint = 2\n")
    assert len(check_config(str(path), lambda: paused.append(None))) == len(paused) == 2


def test_a_kind_that_takes_privileges_is_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first endpoint of it is named; others are not tried."""
    tried = list[str]()

    def refuse(endpoint: techo.Endpoint, _options: techo.SocketOptions) -> None:
        tried.append(str(endpoint))
        raise SocketOptionError.of(errno.EPERM, "ICMP takes privileges", "run as root")

    monkeypatch.setattr("techo._raw.transports.try_out", refuse)
    texts = ("udp://localhost:1", "icmp://localhost", "icmp://127.0.0.1")
    with pytest.raises(ValueError, match=r"^icmp://localhost: ICMP takes .*; run as root$"):
        check_privileges(map(techo.Endpoint.parse, texts))
    assert tried == ["icmp://localhost"]


def test_every_option_of_a_target_is_a_key() -> None:
    """Those of ping's about sockets and TLS have the same names."""
    assert {"tls-ca", "tls-insecure", "source", "dscp", "send-proxy"} < {*OF_ALL}
    assert not {*OF_ALL} & {*OF_A_TARGET}


def test_the_chapter_has_every_key_and_its_examples_are_right(read: Read) -> None:
    """The first of them is the recipe, of ten lines."""
    text = chapter("watch")
    assert not [key for key in (*OF_A_TARGET, *OF_ALL) if f"`{key}`" not in text]
    first, *others = [each.code for each in blocks(text) if each.language == "toml"]
    assert first == recipe("watch.toml", {})
    assert [len(read(each)) for each in (first, *others)] == [2, 1]
    assert len(first.splitlines()) == 10


def test_the_chapter_shows_mistakes_as_they_are(read: Read) -> None:
    """Those of a file like the one before, with three of them."""
    (shown,) = [each.code for each in blocks(chapter("watch")) if "watch.toml:3" in each.code]
    found = mistakes(
        read,
        """\
# A group is misspelt.
[defaults]
intervall = "10s"

[group.web]
connect = true
rules = ["p98>80ms"]

[[target]]
endpoint = "tls://192.0.2.1:443"
name = "shop"
group = "wbe"
""",
    )
    assert [f"watch.toml:{each}" for each in found] == shown.splitlines()


def test_the_chapter_has_every_figure_of_rules() -> None:
    """The causes stand in another table."""
    table = chapter("watch").partition("| figure | limit |")[2].partition("\n\n")[0]
    figures = set(re.findall(r"`([\w.]+)`", table))
    assert figures >= {*WATCH} - {*map(str, techo.FailureCause)} - {"failures"}
    assert figures <= {*WATCH, "ping"}


VALUES = st.recursive(
    st.text(max_size=5)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.sampled_from(["tls://localhost:1", "unix:/x", "udp://[::1]:1", "1s", "p99>5ms", "EF"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)
TABLES = st.dictionaries(
    st.sampled_from([*OF_ALL, *OF_A_TARGET]) | st.text(max_size=3), VALUES, max_size=4
)


@settings(max_examples=50)  # each reads a file or two
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "defaults": TABLES | VALUES,
            "group": st.dictionaries(st.text(max_size=3), TABLES, max_size=2) | VALUES,
            "target": st.lists(TABLES, max_size=3) | VALUES,
        },
    )
)
def test_whatever_a_file_says_it_is_right_or_refused(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    """Nothing but mistakes comes of a file; each is one line that can be printed."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(written(document))
    try:
        targets = check_config(str(path))
    except ConfigError as error:
        for line in error.lines:
            assert re.match(rf"{re.escape(str(path))}:[0-9]+: ", line)
            assert line.isprintable()
    else:
        assert 1 <= len(targets) <= 3
        assert targets == check_config(str(path))
