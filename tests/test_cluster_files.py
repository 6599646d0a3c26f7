"""The examples of docs/cluster are ones that Ray's launcher, KubeRay and nasbench can read."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import yaml

from nasbench.cli import app
from nasbench.experiment.sweep.settings import load_sweep

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/cluster"
COMMANDS = {command.name for command in app.registered_commands}


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


def nasbench_commands(text):
    """The arguments of every `nasbench ...` in a text; a wide gap begins an explanation."""
    found = re.findall(r"\bnasbench (\w.*)", text.replace("\\\n", " "))
    return [shlex.split(re.split(r" {3,}", line)[0]) for line in found]


@pytest.fixture(scope="module")
def launcher_schema():
    """What Ray's launcher accepts, as it ships."""
    (package,) = find_spec("ray").submodule_search_locations
    return json.loads((Path(package) / "autoscaler/ray-schema.json").read_text())


def test_the_launchers_file_is_what_its_schema_says(launcher_schema):
    content = read("cluster.yaml")
    jsonschema.validate(content, launcher_schema)
    types = content["available_node_types"]
    assert content["head_node_type"] in types
    assert types["worker"]["max_workers"] <= content["max_workers"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "max_worker": 8}, launcher_schema)


def test_the_ray_job_has_what_kuberay_requires():
    content = read("rayjob.yaml")
    assert (content["apiVersion"], content["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", content["metadata"]["name"])
    cluster = content["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["groupName"]
    assert 0 <= workers["minReplicas"] <= workers["maxReplicas"]
    images = set()
    for group in (cluster["headGroupSpec"], workers):
        params = group["rayStartParams"]
        assert all(isinstance(value, str) for value in params.values())
        pod = group["template"]["spec"]
        mounted = {mount["name"] for c in pod["containers"] for mount in c.get("volumeMounts", [])}
        assert mounted <= {volume["name"] for volume in pod.get("volumes", [])}
        images |= {container["image"] for container in pod["containers"]}
    assert len(images) == 1, "all nodes run the same"
    assert images == {read("cluster.yaml")["docker"]["image"]}
    (given,) = shlex.split(workers["rayStartParams"]["resources"])  # as the shell of a pod reads it
    assert json.loads(given) == {"latency_slot": 1}
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert cluster["rayVersion"] == pinned[1]


def test_its_entrypoint_is_a_sweep_that_can_be_read(tmp_path):
    (arguments,) = nasbench_commands(read("rayjob.yaml")["spec"]["entrypoint"])
    assert arguments[0] == "sweep"
    sweep = load_sweep(ROOT / arguments[1])
    assert sweep.config.early_stopping is not None
    assert len(sweep.members) == 36


def test_every_command_of_the_page_exists():
    text = "\n".join(re.findall(r"```\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL))
    commands = nasbench_commands(text)
    assert {"run", "sweep"} <= {command[0] for command in commands} <= COMMANDS
    for command in commands:
        assert (ROOT / command[1]).is_file(), command
