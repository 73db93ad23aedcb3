"""Workers, executors and engines are killed with -9 in the middle of a stage: the run recovers by itself and ends with the same data.

Workers of rollouts and estimates, and drivers: tests/jobs/test_kills.py; a trainer: tests/jobs/test_demo.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.storage import Folder
from tests.workflows.scripted_loop import NUM_PROBLEMS, loop, rows
from workflows import evaluation, search
from workflows.stage import parts
from workflows.stage.links import DONE

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_the_scripted_loop_judges_every_sum_rightly(calm: Folder) -> None:
    labels = parts.read_rows(calm, "labels/rpe")
    assert len(labels) == 2 * NUM_PROBLEMS
    assert {row["first_error"] for row in labels if row["outcome"] == "correct"} == {-1}
    assert {row["first_error"] for row in labels if row["outcome"] == "incorrect"} == {0}
    assert len(parts.read_rows(calm, "conversations/rpe")) == 2 * NUM_PROBLEMS
    assert evaluation.scores(calm, "genprm", "sums")["votes/f1"] == 100.0
    assert search.scores(calm, "genprm", "sums") == {
        "pass_at_1": 50.0, "majority": 100.0, "weighted": 100.0, "best_of_n": 100.0, "pass_at_n": 100.0,
        "critic_turn_0": 100.0, "critic_turn_1": 100.0,
    }  # fmt: skip


def test_a_killed_worker_changes_nothing(calm: Folder, tmp_path: Path) -> None:
    victims: dict[str, Sequence[str]] = {
        "rationales": ["ray::Rationales", "ray::CodeExecutor"],
        "evaluate": ["ray::EvaluateGenprmSums", "ray::CodeExecutor"],
        "search": ["ray::SearchGenprmSums", "ray::CodeExecutor", "ray::PolicyEngine"],
    }
    for kind in ("problems", "rollouts", "solutions"):
        shutil.copytree(Path(calm.uri) / kind, tmp_path / "run" / kind)
    run, kills = loop(tmp_path, list(victims), victims)
    assert {stage: sorted(found) for stage, found in kills.items()} == {stage: sorted(titles) for stage, titles in victims.items()}
    for stage in ("rationales", "evaluate/genprm/sums", "search/genprm/sums"):
        assert parts.read_rejects(run, stage) == parts.read_rejects(calm, stage)
        assert rows(run, stage) == rows(calm, stage)
    records = [(run / stage).read_json(DONE) for stage in ("rationales", "evaluate/genprm/sums")]
    for record in records:  # one worker died in each, with what it had in flight just then
        assert record["rows_repeated"] < record["rows_in"]  # what was committed before is not done again
        assert (record["tokens_repeated"] > 0) == (record["rows_repeated"] > 0)
        assert record["tokens_repeated"] < record["tokens"]
