"""What a stage's engines reserve, and whether that fits, before anything is started."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actors.engine.config import VllmEngineConfig, process_gpus
from cluster.plan import READ_TASK, shortfall
from genprm.records import Problem
from genprm.section import Section
from workflows.stage.pool import Pool
from workflows.stage.row_stage import RowStage


def no_worker(*_: object) -> Any:
    raise AssertionError


def stage(engine: VllmEngineConfig, **pool: Any) -> RowStage:
    return RowStage(
        name="rollouts", reads=("problems",), key="id", writes=Problem, make_worker=no_worker, settings=Section(), engine=engine,
        pool=Pool(**pool),
    )  # fmt: skip


def test_engines_over_several_nodes_reserve_their_gpus_on_each() -> None:
    engine = VllmEngineConfig(model="m", num_gpus=4, num_nodes=2, num_cpus=2)
    demands = stage(engine, num_workers=2).demands
    assert [(demand.cpus, demand.gpus) for demand in demands if demand != READ_TASK] == [(2, 0), (0, 4), (0, 4)] * 2
    assert process_gpus(engine) == 0
    assert shortfall(demands, [{"CPU": 8.0, "GPU": 8.0}] * 2) is None
    assert "16 GPU, of which there are 8" in str(shortfall(demands, [{"CPU": 8.0, "GPU": 8.0}]))
    assert "on none is there room for 4 GPU" in str(shortfall(demands, [{"CPU": 8.0, "GPU": 2.0}] * 8))
    with pytest.raises(ValueError, match=r"pools\.rollouts\.num_workers = '1-2': engines over several nodes"):
        _ = replace(stage(engine), pool=Pool(num_workers="1-2")).demands


def test_engines_of_one_node_reserve_all_they_need_there() -> None:
    demands = stage(VllmEngineConfig(model="m", num_gpus=4, num_cpus=2), num_workers="1-2").demands
    assert [(demand.cpus, demand.gpus) for demand in demands if demand != READ_TASK] == [(2, 4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_gpus": 2.5}, "num_gpus = 2.5: an engine has a part of one GPU, or whole ones"),
        ({"num_gpus": 0.5, "num_nodes": 2}, "num_nodes = 2 with num_gpus = 0.5: give the GPUs of each node"),
        ({"num_gpus": 0, "batch_invariant": True}, "batch_invariant is a mode of vLLM for GPUs"),
    ],
)
def test_gpus_that_no_engine_can_have_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VllmEngineConfig(model="m", **change)
