"""The manifests for KubeRay: valid by its CRDs, their CEL rules and the operator's own rules, and with room for what the code reserves."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from actors.storage import Folder
from cluster.plan import shortfall
from jobs.config import load
from tests.cluster.tools import run_tool, tool
from tests.jobs.running import ROOT
from tests.shared_data import shared
from workflows.stages import every_stage

FOLDER = ROOT / "cluster" / "kuberay"
RAY_MANIFESTS = ("raycluster.yaml", "rayjob.yaml", "rayjob-kueue.yaml")


def manifest(name: str) -> dict[str, Any]:
    (found,) = yaml.safe_load_all((FOLDER / name).read_text())
    return dict(found)


def cluster_of(found: Mapping[str, Any]) -> dict[str, Any]:
    return dict(found["spec"] if found["kind"] == "RayCluster" else found["spec"]["rayClusterSpec"])


@cache
def crd(kind: str) -> dict[str, Any]:
    """The v1 schema of a kind, as the API server would apply it."""
    (found,) = yaml.load_all(shared(f"kuberay-1.7.0/{kind.lower()}s.yaml").read_text(), yaml.CSafeLoader)
    (schema,) = (version["schema"]["openAPIV3Schema"] for version in found["spec"]["versions"] if version["name"] == "v1")
    schema["properties"]["metadata"] = {"type": "object"}
    return dict(schema)


def strict(schema: Any) -> Any:
    """As JSON schema: unknown fields are errors, what has a default is not required, numbers may be texts where Kubernetes says so."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    properties = schema.get("properties", {})
    found = {name: strict(value) for name, value in schema.items() if name not in ("properties", "default", "format", "description")}
    found = {name: value for name, value in found.items() if not name.startswith("x-kubernetes")}
    if schema.get("x-kubernetes-int-or-string"):
        found = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    if "properties" in schema:
        found["properties"] = {name: strict(value) for name, value in properties.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            found["additionalProperties"] = False
    if "required" in found:
        found["required"] = [name for name in schema["required"] if "default" not in properties.get(name, {})]
    return found


def rules(schema: Any, value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """(path, CEL rule, value) of all rules of a schema that bear on a value and need no older value."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"]:
            yield path, rule["rule"], value
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in schema.get("properties", {}):
                yield from rules(schema["properties"][name], item, f"{path}/{name}")
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from rules(schema["items"], item, f"{path}/{index}")


def errors(found: Mapping[str, Any]) -> list[str]:
    validator = Draft202012Validator(strict(crd(found["kind"])))
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator.iter_errors(found)]


@pytest.mark.parametrize("name", RAY_MANIFESTS)
def test_manifests_fit_the_crds(name: str) -> None:
    found = manifest(name)
    assert errors(found) == []
    typo = copy.deepcopy(found)
    cluster_of(typo)["workerGroupSpecs"][0]["maxReplica"] = 3
    cluster_of(typo)["workerGroupSpecs"][1]["template"]["spec"]["containers"][0]["resource"] = {}
    assert len(errors(typo)) == 2


def broken_rules(found: Mapping[str, Any]) -> list[str]:
    program = "import cel, json, sys\nprint(json.dumps([cel.evaluate(rule, {'self': value}) for rule, value in json.load(sys.stdin)]))"
    bearing = list(rules(crd(found["kind"]), found))
    asked = json.dumps([(rule, value) for _, rule, value in bearing])
    done = subprocess.run(
        [tool("cel").replace("bin/cel", "bin/python"), "-c", program], input=asked, capture_output=True, text=True, check=True
    )
    return [f"{path}: {rule}" for (path, rule, _), holds in zip(bearing, json.loads(done.stdout), strict=True) if holds is not True]


def test_the_rules_of_the_crd_hold() -> None:
    found = manifest("rayjob.yaml")
    assert len(list(rules(crd("RayJob"), found))) == 6  # two of the strategy, two of each deletion rule
    assert broken_rules(found) == []
    found["spec"]["deletionStrategy"]["deletionRules"][0]["condition"]["jobDeploymentStatus"] = "Failed"
    assert len(broken_rules(found)) == 1


@pytest.mark.parametrize("name", RAY_MANIFESTS)
def test_the_operators_own_rules_hold(name: str) -> None:
    """What the CRDs do not check, and the operator refuses (KubeRay 1.7.0)."""
    found = manifest(name)
    cluster, spec = cluster_of(found), found["spec"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", found["metadata"]["name"])
    assert cluster["rayVersion"] == "2.60.0"
    assert cluster["authOptions"]["mode"] == "token"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert "labels" not in group["rayStartParams"]
        assert not ("resources" in group and {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"]))
        assert group["template"]["spec"]["restartPolicy"] == "Never"  # with version 2 of the autoscaler
    assert len({group["groupName"] for group in groups[1:]}) == len(groups) - 1
    if found["kind"] == "RayJob":
        assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode")
        assert not ("deletionStrategy" in spec and spec.get("shutdownAfterJobFinishes"))
        assert not ("deletionStrategy" in spec and "ttlSecondsAfterFinished" in spec)
        assert not spec.get("suspend") or spec["shutdownAfterJobFinishes"]
        policies = {rule["policy"] for rule in spec.get("deletionStrategy", {}).get("deletionRules", [])}
        assert "DeleteWorkers" not in policies  # not with autoscaling
        assert ("kueue.x-k8s.io/queue-name" in found["metadata"].get("labels", {})) == bool(spec.get("suspend"))


def test_all_manifests_describe_the_same_cluster() -> None:
    first, *others = (cluster_of(manifest(name)) for name in RAY_MANIFESTS)
    assert all(other == first for other in others)


def resources(group: Mapping[str, Any]) -> dict[str, float]:
    """What a node of a group offers Ray."""
    (container,) = group["template"]["spec"]["containers"]
    limits, start = container["resources"]["requests"], group["rayStartParams"]
    custom = json.loads(json.loads(start["resources"])) if "resources" in start else {}
    return {"CPU": float(start.get("num-cpus", limits["cpu"])), "GPU": float(limits.get("nvidia.com/gpu", 0)), **custom}


def test_every_stage_has_room_when_all_nodes_are_there_and_the_head_takes_no_work() -> None:
    cluster = cluster_of(manifest("raycluster.yaml"))
    assert resources(cluster["headGroupSpec"])["CPU"] == 0
    nodes = [resources(group) for group in cluster["workerGroupSpecs"] for _ in range(group["maxReplicas"])]
    config = load(str(FOLDER / "genprm.toml"), [], Folder("/runs/genprm"))
    stages = every_stage(config, Folder("/runs/genprm"))
    assert {stage.name: why for stage in stages if (why := shortfall(stage.demands, nodes))} == {}
    growable = [resources(group) for group in cluster["workerGroupSpecs"]]
    assert {stage.name: why for stage in stages if (why := shortfall(stage.demands, [], growable=growable))} == {}
    for kind in ("rollouts", "rationales", "train"):  # each kind of node is needed
        (stage,) = (stage for stage in stages if stage.name.partition("/")[0] == kind)
        needed = {"rollouts": "engines", "rationales": "large-engines", "train": "trainer"}[kind]
        assert any(group["groupName"] == needed for group in cluster["workerGroupSpecs"])
        assert stage.demands
    without = [resources(group) for group in cluster["workerGroupSpecs"] if group["groupName"] != "executors"]
    rationales = next(stage for stage in stages if stage.name == "rationales")
    assert "code_executor" in str(shortfall(rationales.demands, without * 8))


def test_executors_are_alone_and_have_nothing_to_steal() -> None:
    cluster = cluster_of(manifest("raycluster.yaml"))
    (executors,) = (group for group in cluster["workerGroupSpecs"] if group["groupName"] == "executors")
    pod = executors["template"]["spec"]
    (container,) = pod["containers"]
    assert resources(executors)["CPU"] == 0  # Ray places nothing there that does not ask for the custom resource
    assert pod["automountServiceAccountToken"] is False
    assert "volumes" not in pod
    assert not {"env", "envFrom", "volumeMounts"} & set(container)
    assert container["securityContext"]["runAsNonRoot"] is True
    policy = manifest("network.yaml")
    assert policy["spec"]["podSelector"]["matchLabels"] == {"ray.io/group": "executors"}
    assert "ipBlock" not in json.dumps(policy)


@pytest.mark.parametrize("name", ["network.yaml", "storage.yaml"])
def test_the_other_manifests_are_kubernetes_own(name: str) -> None:
    assert "passed for resource" in (output := run_tool("kubernetes-validate", "--strict", "-k", "1.36", str(FOLDER / name))), output
