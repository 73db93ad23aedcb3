"""The files for Ray's launcher pass its own check, and the cloud's nodes have room for every stage."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from actors.storage import Folder
from cluster.plan import shortfall
from jobs.config import load
from tests.jobs.running import ROOT
from workflows.stages import every_stage

FOLDER = ROOT / "cluster" / "launcher"


def check(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


@pytest.mark.parametrize("name", ["on-premises.yaml", "gcp.yaml"])
def test_the_launcher_takes_the_file_and_refuses_a_typo(name: str) -> None:
    config = yaml.safe_load((FOLDER / name).read_text())
    check(config)
    config["idle_timeout_minute"] = 5
    with pytest.raises(Exception, match="idle_timeout_minute"):
        check(config)


def test_every_stage_has_room_in_the_cloud() -> None:
    types = yaml.safe_load((FOLDER / "gcp.yaml").read_text())["available_node_types"]
    nodes = [kind["resources"] for name, kind in types.items() if name != "head" for _ in range(kind["max_workers"])]
    assert len(nodes) == 13
    assert types["head"]["resources"]["CPU"] == 0
    config = load(str(ROOT / "cluster" / "kuberay" / "genprm.toml"), [], Folder("/runs/genprm"))
    assert {stage.name: why for stage in every_stage(config, Folder("/runs/genprm")) if (why := shortfall(stage.demands, nodes))} == {}
