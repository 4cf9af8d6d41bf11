"""The Containerfile and the manifest of README name variables, words and routes that exist; their times fit."""

import json
import re

import yaml

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.server.health import PROBES
from tests.conftest import clean_environ
from tests.served import ROOT


def block(language):
    _, _, section = (ROOT / "README.md").read_text().partition("## In a container")
    text, *_ = re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)
    return text


def composed(variables, words):
    context = load_context(clean_environ(**variables))
    assert context.warnings == ()
    return context.compose(parse_overrides(words)).draft


def test_the_manifest_runs():
    deployment, service = yaml.safe_load_all(block("yaml"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {entry["name"]: entry.get("value", "secret") for entry in container["env"]}
    draft = composed(variables, container["args"])
    assert pod["terminationGracePeriodSeconds"] > draft["serve.drain_seconds"]
    assert container["ports"][0]["containerPort"] == draft["serve.port"] == service["spec"]["ports"][0]["port"]
    # All that is written is a volume, and what is mounted is there.
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"cache": draft["cache_dir"], "tmp": "/tmp"}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    gets = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    ports = {get["port"] for get in gets} | {service["spec"]["ports"][0]["targetPort"]}
    assert ports == {container["ports"][0]["name"]}
    probes = [get["path"] for get in gets]
    assert probes == ["/startup", "/live", "/ready"] and set(probes) <= set(PROBES)


def test_the_image_runs():
    text = block("dockerfile")
    variables = dict(re.findall(r"(SENDNN_\w+)=(\S+)", text))
    draft = composed(variables, json.loads(re.search(r"^CMD (.*)$", text, re.M)[1]))
    assert draft["serve.host"] == "0.0.0.0" and f"VOLUME {draft['cache_dir']}\n" in text
    assert f"EXPOSE {draft['serve.port']}\n" in text
