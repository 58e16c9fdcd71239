"""Recipes of watch: a real Prometheus scrapes its metrics, and evaluates rules and panels."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from documents import recipe
from helpers import free_port, needs, running, wait_until
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

TESTS = Path(__file__).parent.parent

ALERTS = """
rule_files: [watch.rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'up{job="techo-watch", instance="a"}', values: "1x10 0x60"}
      - {series: 'techo_watch_up{target="t", group="g", instance="a"}', values: "1x10 0x5 1x60"}
      - {series: 'techo_watch_up{target="f", group="g", instance="a"}', values: "1x10 0x60"}
      - series: 'techo_watch_state{target="t", group="g", instance="a", state="degraded"}'
        values: "0x20 1x60"
      - series: 'techo_watch_state{target="t", group="g", instance="a", state="flapping"}'
        values: "0x60"
      - series: 'techo_watch_state{target="f", group="g", instance="a", state="flapping"}'
        values: "0x9 1x60"
      - series: 'techo_watch_lost_total{target="t", group="g", instance="a", cause="eof"}'
        values: "0+0x40 0+6x40"
      - series: 'techo_watch_lost_total{target="t", group="g", instance="a", cause="reset"}'
        values: "0+0x80"
      - series: 'techo_watch_received_total{target="t", group="g", instance="a"}'
        values: "0+60x40 2400+54x40"
      - series: 'techo_watch_missed_total{target="t", group="g", instance="a"}'
        values: "0+0x10 0+3x60"
      - series: 'techo_watch_sent_total{target="t", group="g", instance="a"}'
        values: "0+60x70"
      - series: 'techo_watch_certificate_expiry_timestamp_seconds{target="t", instance="a"}'
        values: "1210500x70"
    alert_rule_test:
"""
"""All is well for ten minutes. The certificate ends in two weeks and a quarter of an hour."""

TARGET = {"instance": "a", "target": "t", "group": "g"}
EXPECTED: list[Alert] = [
    (
        "TechoWatchIsAway",
        13,
        "critical",
        "techo watch on a does not show its metrics",
        {"instance": "a", "job": "techo-watch"},
    ),
    ("TechoTargetDown", 11, "critical", "t is down", TARGET),
    (
        "TechoTargetFlapping",
        11,
        "warning",
        "f comes and goes",
        {**TARGET, "target": "f", "state": "flapping"},
    ),
    (
        "TechoTargetDegraded",
        27,
        "warning",
        "t answers, but not as its rules say",
        {**TARGET, "state": "degraded"},
    ),
    ("TechoTargetLoses", 60, "warning", "t has lost 10% in 5 minutes", TARGET),
    (
        "TechoCertificateExpires",
        60,
        "warning",
        "the certificate of t expires in 13d 23h 15m 0s",
        {"instance": "a", "target": "t"},
    ),
    (
        "TechoWatchIsBusy",
        30,
        "warning",
        "a was too busy to send 5% of its probes",
        {"instance": "a"},
    ),
]
"""Each alert, a minute at which it fires, its severity and summary, and whom it is about."""


def test_every_alert_fires_when_it_should(tmp_path: Path) -> None:
    """None of them before something is wrong; who flaps is not reported as down, too."""
    check_alerts(tmp_path, "watch.rules.yml", ALERTS, EXPECTED)


def test_promtool_finds_nothing_wrong_with_the_configuration(tmp_path: Path) -> None:
    """The scrape configuration and the rules that it names are checked together."""
    recipes = ["watch.prometheus.yml", "watch.rules.yml"]
    said = promtool(tmp_path, recipes, "check", "config", "--lint-fatal", recipes[0])
    assert f"{len(EXPECTED) + 4} rules found" in said


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve the metrics of two targets; return the port."""
    port = free_port()
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    command = ["env", f"PYTHONPATH={path}", sys.executable]
    command += [str(TESTS / "system" / "watch_metrics.py"), str(port)]
    log = tmp_path_factory.mktemp("metrics") / "log"
    with log.open("wb") as file, running(command, file):
        wait_until(lambda: read(f"http://127.0.0.1:{port}/metrics"), "it shows its metrics")
        yield port


@pytest.fixture(scope="module")
def prometheus(metrics: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run the recipe on this machine, scraping often."""
    folder = tmp_path_factory.mktemp("prometheus")
    places = {"interval: 15s": "interval: 200ms", "127.0.0.1:9110": f"127.0.0.1:{metrics}"}
    (folder / "prometheus.yml").write_text(recipe("watch.prometheus.yml", places))
    (folder / "watch.rules.yml").write_text(recipe("watch.rules.yml", {}))
    with prometheus_in(folder) as found:
        yield found


def test_promtool_finds_nothing_wrong_with_the_metrics(metrics: int) -> None:
    """Names, units and types follow the conventions that it checks."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics") as page:
        text = page.read()
    assert b'techo_watch_up{group="web",kind="tls",target="ill"} 0.0' in text
    checked = subprocess.run(
        [needs("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


VARIABLES = {
    "$job": "techo-watch",
    "$group": ".*",
    "$target": ".*",
    "$__rate_interval": "1m",
}


def test_every_panel_of_the_dashboard_shows_something(prometheus: Prometheus) -> None:
    """Each expression is a series, and each of its variables has values."""
    dashboard = json.loads(recipe("watch-grafana.json", {}))
    queries = expressions(dashboard, VARIABLES)
    assert len(queries) > 20
    for query in queries:
        prometheus.wait_for(query)
    assert values_of_variables(prometheus, dashboard, VARIABLES) == [1, 1, 2]


def test_every_record_has_values_that_make_sense(prometheus: Prometheus) -> None:
    """The half of round trips, and the shares of what was lost and of being there."""
    records = re.findall(r"record: (\S+)", recipe("watch.rules.yml", {}))
    for record in records:
        prometheus.wait_for(record, lambda values: len(values) == 2)
    for query, least, most in [
        ('techo_watch:round_trip_seconds:p50_5m{target="well"}', 1e-4, 2.5e-4),
        ('techo_watch:lost:ratio_5m{target="well"}', 0, 0),
        ('techo_watch:lost:ratio_5m{target="ill"}', 0.9, 0.95),
        ('techo_watch:available:ratio_1d{target="well"}', 1, 1),
    ]:
        within = f"{least} <= {query} <= {most}"
        prometheus.wait_for(within)


def test_the_dashboard_leaves_out_no_metric(prometheus: Prometheus) -> None:
    """Whatever watch counts is in a panel, or in a record that is."""
    text = recipe("watch-grafana.json", {}) + recipe("watch.rules.yml", {})
    wait_until(lambda: prometheus.values("techo_build_info"), "it was scraped")
    names = prometheus.ask("label/__name__/values")
    ours = {each for each in names if each.startswith("techo_")}
    assert len(ours) > 15
    shown = {each for each in ours if each in text}
    assert ours - shown == {
        "techo_watch_round_trip_seconds_count",
        "techo_watch_round_trip_seconds_sum",
    }
