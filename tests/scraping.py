"""A Prometheus that runs for a test, and what the panels of a dashboard ask it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

import attrs


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
