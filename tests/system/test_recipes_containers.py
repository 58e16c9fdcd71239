"""Recipes for containers: the image's steps in a new environment, Kubernetes' own schemas."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import techo
from documents import README, recipe
from helpers import PATIENCE, call, free_port, serving, wait_until

CHECKOUT = README.parent


def instructions(name: str) -> list[str]:
    """Return the values of one of the image's instructions, in order."""
    return re.findall(rf"^{name} (.*)$", recipe("Containerfile", {}), re.MULTILINE)


def listening(words: list[str], metrics: int) -> list[str]:
    """Return a command line on this machine alone, on free ports, and long a lame duck."""
    places = {
        "*:9100": str(metrics),
        "*:8009": "tcp://127.0.0.1:0",
        "udp://*:8009": "udp://127.0.0.1:0",
        "10s": f"{PATIENCE}s",
    }
    return [places.get(each, each) for each in words]


def status_of(metrics: int, page: str) -> int:
    """Return the status of a page; 0 while nobody listens there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}{page}") as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except urllib.error.URLError:
        return 0


def test_the_steps_of_the_image_install_techo(tmp_path: Path) -> None:
    """In a folder in place of the image's root; what it starts then serves and drains."""
    checkout, installed = tmp_path / "checkout", tmp_path / "opt" / "techo"
    for line in instructions("COPY"):
        *sources, target = line.split()
        if sources[0].startswith("--from="):
            assert (*sources[1:], target) == ("/opt/techo", "/opt/techo")
            continue
        for source in sources:
            path = tmp_path / target.strip("/")
            if (CHECKOUT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(CHECKOUT / source, path, ignore=ignored)
            else:
                path.mkdir(exist_ok=True)
                shutil.copy(CHECKOUT / source, path / source)
    for line in instructions("RUN"):
        step = line.replace("/opt/techo", str(installed)).replace("/checkout", str(checkout))
        step = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", step)
        done = subprocess.run(
            ["sh", "-c", step], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    (entry,), (arguments,) = instructions("ENTRYPOINT"), instructions("CMD")
    (program,) = json.loads(entry)
    assert program == "/opt/techo/bin/techo"
    metrics = free_port()
    words = listening(json.loads(arguments), metrics)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(
        [str(installed / "bin" / "techo"), *words], stdout=subprocess.PIPE, env=environment
    ) as popen:
        try:
            assert popen.stdout is not None
            assert popen.stdout.readline().startswith(b"listening on tcp://127.0.0.1:")
            wait_until(lambda: status_of(metrics, "/readyz") == 200, "it is ready")
            popen.terminate()
            assert popen.wait(PATIENCE) == 0
        finally:
            popen.kill()


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """Return the objects of the recipe for Kubernetes, by their kinds."""
    return {each["kind"]: each for each in yaml.safe_load_all(recipe("kubernetes.yaml", {}))}


KINDS = ["Deployment", "HorizontalPodAutoscaler", "Job", "NetworkPolicy", "Service"]


@pytest.mark.parametrize("version", ["1.25.0", kubernetes_validate.latest_version()])
def test_every_object_is_one_of_kubernetes(version: str, objects: dict[str, Any]) -> None:
    """Their own schemas, of an old version and the newest, know every field."""
    assert sorted(objects) == KINDS
    for each in objects.values():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_objects_find_each_other(objects: dict[str, Any]) -> None:
    """Labels, names of ports and of objects agree, which no schema checks."""
    deployment, service = objects["Deployment"]["spec"], objects["Service"]["spec"]
    policy, scaler = (
        objects["NetworkPolicy"]["spec"],
        objects["HorizontalPodAutoscaler"]["spec"],
    )
    pod = deployment["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == service["selector"] == labels
    assert policy["podSelector"]["matchLabels"] == labels
    assert objects["Job"]["spec"]["template"]["metadata"]["labels"] != labels
    assert scaler["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    (container,) = pod["spec"]["containers"]
    ports = {(each["name"], each["protocol"]) for each in container["ports"]}
    assert {(each["targetPort"], each["protocol"]) for each in service["ports"]} <= ports
    allowed = [each for rule in policy["ingress"] for each in rule["ports"]]
    assert {(each["port"], each["protocol"]) for each in allowed} == ports
    probes = container["readinessProbe"], container["livenessProbe"]
    assert {each["httpGet"]["port"] for each in probes} == {"metrics"}
    address = f"tcp://{objects['Service']['metadata']['name']}:{service['ports'][0]['port']}"
    (probe,) = objects["Job"]["spec"]["template"]["spec"]["containers"]
    assert address in probe["args"]
    assert probe["image"] == container["image"]


def test_a_pod_is_probed_and_leaves_as_kubernetes_wants(objects: dict[str, Any]) -> None:
    """It serves, its probes are answered, and while it leaves it is alive but not ready."""
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    probes = container["readinessProbe"], container["livenessProbe"]
    ready, alive = (each["httpGet"]["path"] for each in probes)
    metrics = free_port()
    with serving(*listening(container["args"], metrics), bare=True, sockets=2) as process:
        wait_until(lambda: status_of(metrics, ready) == 200, "it is ready")
        assert status_of(metrics, alive) == 200
        (probe,) = objects["Job"]["spec"]["template"]["spec"]["containers"]
        words = [str(process.endpoints[0]) if "://" in each else each for each in probe["args"]]
        code, out, _ = call(*words)
        assert code == 0, out
        process.popen.terminate()
        wait_until(lambda: status_of(metrics, ready) == 503, "it is not ready any more")
        assert status_of(metrics, alive) == 200
        process.finish()  # a second signal does not wait
    (duck,) = [each for each in container["args"] if re.fullmatch(r"\d+s", each)]
    drain = techo.Limits().drain_timeout
    assert spec["terminationGracePeriodSeconds"] > int(duck.rstrip("s")) + drain
