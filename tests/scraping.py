"""A Prometheus that runs for a test, and what the panels of a dashboard ask it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from documents import recipe
from helpers import free_port, needs, running, wait_until

Alert: TypeAlias = tuple[str, int, str, str, Mapping[str, str]]
"""Its name, a minute at which it fires, its severity and summary, and whom it is about."""


def promtool(folder: Path, recipes: Sequence[str], *arguments: str) -> str:
    """Return what promtool says of recipes in a folder, all of which must be right."""
    for name in recipes:
        (folder / name).write_text(recipe(name, {}))
    done = subprocess.run(
        [needs("promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_alerts(folder: Path, rules: str, series: str, expected: Sequence[Alert]) -> None:
    """See that a recipe has these alerts, that none fires at minute nine, and each in time."""
    assert re.findall(r"alert: (\w+)", recipe(rules, {})) == [name for name, *_ in expected]
    cases = list[dict[str, object]]()
    for name, minute, severity, summary, about in expected:
        alert = {
            "exp_labels": {**about, "severity": severity},
            "exp_annotations": {"summary": summary},
        }
        cases.append({"eval_time": "9m", "alertname": name, "exp_alerts": []})
        cases.append({"eval_time": f"{minute}m", "alertname": name, "exp_alerts": [alert]})
    lines = "".join(f"      - {json.dumps(each)}\n" for each in cases)
    (folder / "tests.yml").write_text(series + lines)
    promtool(folder, [rules], "test", "rules", "tests.yml")


def read(url: str) -> str:
    """Return a page's text; nothing while its server starts."""
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310  -- our own
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 503:
                raise  # such as an expression that is none
    except urllib.error.URLError:
        pass  # it does not listen yet
    return ""


@attrs.frozen
class Prometheus:
    """One that scrapes two techo, and what it knows."""

    address: str

    def ask(self, page: str, **parameters: str) -> Any:
        """Return the data of an answer of its HTTP interface; None while it starts."""
        query = urllib.parse.urlencode(parameters)
        text = read(f"http://{self.address}/api/v1/{page}?{query}")
        return json.loads(text)["data"] if text else None

    def values(self, query: str) -> list[float]:
        """Return the values of now of all series that a query finds."""
        found = self.ask("query", query=query) or {"result": []}
        return [float(each["value"][1]) for each in found["result"]]

    def wait_for(self, query: str, wanted: Callable[[list[float]], object] = bool) -> None:
        """Wait until what a query finds is as wanted: something, if nothing else is said."""
        wait_until(lambda: wanted(self.values(query)), query)


@contextlib.contextmanager
def prometheus_in(folder: Path, *beside: list[str]) -> Iterator[Prometheus]:
    """Run one with the prometheus.yml of a folder for a block, and other programs beside it."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        needs("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for each in (*beside, command):
            stack.enter_context(running(each, log))
        yield Prometheus(address)


def expressions(dashboard: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    """Return what the panels ask for, with the variables filled in."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [re.sub(r"\$\w+", lambda each: variables[each[0]], each) for each in found]


def values_of_variables(
    prometheus: Prometheus, dashboard: dict[str, Any], variables: Mapping[str, str]
) -> list[int]:
    """Return how many values a dashboard offers for each of its variables."""
    counts = list[int]()
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert found is not None, variable["query"]
            match = re.sub(r"\$\w+", lambda each: variables[each[0]], found[1])
            series = prometheus.ask("series", **{"match[]": match})
            values = {each.get(found[2], "") for each in series}  # an empty label is none
            counts.append(len(values - {""}))
    return counts
