"""Every kind of worker is killed with -9 in the middle of its stage: the run recovers by itself and ends with the same data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.workflows.scripted_loop import NUM_PROBLEMS, loop, rows
from workflows import evaluation, search
from workflows.stage import parts
from workflows.stage.folder import Folder
from workflows.stage.links import DONE

STAGES = (
    "rollouts", "solutions", "estimates/paper", "labels/rpe", "rationales", "conversations/rpe", "evaluate/genprm/sums",
    "search/genprm/sums",
)  # fmt: skip

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_the_scripted_loop_judges_every_sum_rightly(calm: Folder) -> None:
    labels = parts.read_rows(calm, "labels/rpe")
    assert len(labels) == 2 * NUM_PROBLEMS
    assert {row["first_error"] for row in labels if row["outcome"] == "correct"} == {-1}
    assert {row["first_error"] for row in labels if row["outcome"] == "incorrect"} == {0}
    assert len(parts.read_rows(calm, "conversations/rpe")) == 2 * NUM_PROBLEMS
    assert evaluation.scores(calm, "genprm", "sums")["votes/f1"] == 100.0
    assert search.scores(calm, "genprm", "sums") == {
        "pass_at_1": 50.0, "majority": 100.0, "best_of_n": 100.0, "pass_at_n": 100.0, "critic_turn_0": 100.0, "critic_turn_1": 100.0,
    }  # fmt: skip


def test_a_killed_worker_changes_nothing(calm: Folder, tmp_path: Path) -> None:
    victims: dict[str, Sequence[str]] = {
        "rollouts": ["ray::MapWorker(MapBatches(Rollouts))"],
        "estimates": ["ray::MapWorker(MapBatches(EstimatesPaper))"],
        "rationales": ["ray::MapWorker(MapBatches(Rationales))", "ray::CodeExecutor"],
        "evaluate": ["ray::MapWorker(MapBatches(EvaluateGenprmSums))", "ray::CodeExecutor"],
        "search": ["ray::MapWorker(MapBatches(SearchGenprmSums))", "ray::CodeExecutor", "ray::EngineHost"],
    }
    run, kills = loop(tmp_path, victims)
    assert {stage: sorted(found) for stage, found in kills.items()} == {stage: sorted(titles) for stage, titles in victims.items()}
    for stage in STAGES:
        assert parts.read_rejects(run, stage) == parts.read_rejects(calm, stage)
        assert rows(run, stage) == rows(calm, stage)
    records = [(run / stage).read_json(DONE) for stage in ("rollouts", "estimates/paper", "rationales", "evaluate/genprm/sums")]
    assert sum(record["rows_repeated"] for record in records) > 0
    for record in records:  # one worker died in each, with what it had in flight just then
        assert record["rows_repeated"] <= 4
        assert (record["tokens_repeated"] > 0) == (record["rows_repeated"] > 0)
        assert record["tokens_repeated"] < record["tokens"]
