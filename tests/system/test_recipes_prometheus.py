"""Recipes for watching: a real Prometheus and blackbox_exporter run them against two techo."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import techo
from documents import recipe
from helpers import free_port, needs, running, serving, wait_until
from scraping import (
    Alert,
    Prometheus,
    check_alerts,
    expressions,
    prometheus_in,
    promtool,
    read,
    values_of_variables,
)

HOSTS = ("127.0.0.2", "127.0.0.3")

ALERTS = """
rule_files: [techo.rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'up{job="techo", instance="a"}', values: "1x10 0x20"}
      - {series: 'probe_success{job="techo-echo", instance="a"}', values: "1x10 0x20"}
      - series: 'techo_connections_total{job="techo", instance="a", outcome="crashed"}'
        values: "0x10 1x20"
      - series: 'techo_connections_total{job="techo", instance="a", outcome="refused"}'
        values: "0+0x10 0+20x20"
      - series: 'techo_connections_total{job="techo", instance="a", outcome="stalled"}'
        values: "0+0x10 0+20x40"
      - series: 'techo_accepted_connections_total{job="techo", instance="a"}'
        values: "0+100x60"
      - {series: 'process_open_fds{job="techo", instance="a"}', values: "10x10 900x20"}
      - {series: 'process_max_fds{job="techo", instance="a"}', values: "1000x60"}
    alert_rule_test:
"""
"""All is well for ten minutes, and then nothing is."""

TECHO = {"instance": "a", "job": "techo"}
ECHO = {"instance": "a", "job": "techo-echo"}
CRASHES = "connections of a end by an error in the program"
STALLS = "a has peers that do not read what comes back"
EXPECTED: list[Alert] = [
    ("TechoDown", 13, "critical", "a does not show its metrics", TECHO),
    ("TechoDoesNotEcho", 13, "critical", "a cannot be reached, or does not echo", ECHO),
    ("TechoCrashes", 12, "warning", CRASHES, TECHO | {"outcome": "crashed"}),
    ("TechoRefuses", 26, "warning", "a refuses 20% of connections", TECHO),
    ("TechoDescriptors", 17, "warning", "a has 90% of its descriptors in use", TECHO),
    ("TechoStalls", 45, "info", STALLS, TECHO | {"outcome": "stalled"}),
]
"""Each alert, a minute at which it fires, its severity and summary, and whom it is about."""


def test_every_alert_fires_when_it_should(tmp_path: Path) -> None:
    """None of them before something is wrong, with the summary that somebody will read."""
    check_alerts(tmp_path, "techo.rules.yml", ALERTS, EXPECTED)


def test_promtool_finds_nothing_wrong_with_the_configuration(tmp_path: Path) -> None:
    """The scrape configuration and the rules that it names are checked together."""
    recipes = ["prometheus.yml", "techo.rules.yml"]
    said = promtool(tmp_path, recipes, "check", "config", "--lint-fatal", recipes[0])
    assert f"{len(EXPECTED)} rules found" in said


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run the recipes on this machine, scraping often, with clients of all kinds."""
    folder = tmp_path_factory.mktemp("prometheus")
    port, metrics, exporter = (free_port() for _ in range(3))
    places = {
        "'*:8009' 'udp://*:8009'": f"tcp://*:{port} udp://*:{port}",
        "'*:9100'": f"*:{metrics}",
        "interval: 15s": "interval: 200ms",
        "127.0.0.1:9115": f"127.0.0.1:{exporter}",
    }
    for theirs, ours in zip(("192.0.2.1", "192.0.2.2"), HOSTS, strict=True):
        places |= {f"{theirs}:9100": f"{ours}:{metrics}", f"{theirs}:8009": f"{ours}:{port}"}
    text = recipe("prometheus.yml", places)
    (folder / "prometheus.yml").write_text(text)
    for name in ("techo.rules.yml", "blackbox.yml"):
        (folder / name).write_text(recipe(name, {}))
    (line,) = re.findall(r"^# techo (.*)$", text, re.MULTILINE)
    blackbox = [
        needs("prometheus-blackbox-exporter"),
        f"--config.file={folder}/blackbox.yml",
        f"--web.listen-address=127.0.0.1:{exporter}",
    ]
    with ExitStack() as stack:
        for host in HOSTS:
            words = shlex.split(line.replace("*:", f"{host}:"))
            stack.enter_context(serving(*words, sockets=2))
        yield stack.enter_context(prometheus_in(folder, blackbox))


def test_prometheus_finds_both_and_both_echo(prometheus: Prometheus) -> None:
    """Every target of both jobs is up, and blackbox_exporter gets its line back."""
    for query in ('up{job="techo"}', 'up{job="techo-echo"}', "probe_success"):
        prometheus.wait_for(query, lambda values: values == [1, 1])


def test_a_server_that_does_not_echo_fails_the_probe(tmp_path: Path) -> None:
    """A connection alone is not enough."""
    exporter = free_port()
    file = tmp_path / "blackbox.yml"
    file.write_text(recipe("blackbox.yml", {"timeout: 5s": "timeout: 500ms"}))
    command = [needs("prometheus-blackbox-exporter"), f"--config.file={file}"]
    command.append(f"--web.listen-address=127.0.0.1:{exporter}")
    with (
        serving() as good,
        serving("--fault", "stall=0") as bad,
        (tmp_path / "log").open("wb") as log,
        running(command, log),
    ):

        def succeeds(target: techo.Endpoint) -> list[str]:
            place = f"{target.host}:{target.port}"
            text = read(f"http://127.0.0.1:{exporter}/probe?module=techo&target={place}")
            return re.findall(r"^probe_success (\d)$", text, re.MULTILINE)

        wait_until(lambda: succeeds(good.endpoints[0]) == ["1"], "the good one echoes")
        assert succeeds(bad.endpoints[0]) == ["0"]


VARIABLES = {"$job": "techo", "$instance": ".*", "$__rate_interval": "1m"}


def test_every_panel_of_the_dashboard_shows_something(prometheus: Prometheus) -> None:
    """Each expression is a series, and each of its variables has values."""
    dashboard = json.loads(recipe("grafana.json", {}))
    queries = expressions(dashboard, VARIABLES)
    assert len(queries) > 15
    wait_until(lambda: prometheus.values("techo_accepted_connections_total > 2"), "probes")
    for query in queries:
        prometheus.wait_for(query)
    assert values_of_variables(prometheus, dashboard, VARIABLES) == [1, 2]


def test_the_dashboard_leaves_out_no_metric(prometheus: Prometheus) -> None:
    """Whatever techo counts is in a panel."""
    text = recipe("grafana.json", {})
    wait_until(lambda: prometheus.values("techo_build_info"), "it was scraped")
    names = prometheus.ask("label/__name__/values")
    ours = {each for each in names if each.startswith("techo_")}
    shown = {each for each in ours if each in text}
    assert ours - shown <= {
        "techo_connection_duration_seconds_count",
        "techo_connection_duration_seconds_sum",
    }
