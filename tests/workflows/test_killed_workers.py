"""Every kind of worker is killed with -9 in the middle of its stage: the run goes on by itself and ends with the same data."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.config import Config, load
from jobs.settings import evaluation_settings, search_settings, synthesis_settings
from workflows import evaluation, parts, search, training
from workflows.storage import Folder
from workflows.synthesis import synthesize
from workflows.tracking import Tracker, TrackingConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_PROBLEMS = 24


def configuration(folder: Path, run: Folder, num_problems: int = NUM_PROBLEMS, more: Sequence[str] = ()) -> Config:
    sums = [(n, n + 1) for n in range(num_problems)]
    problems = [{"unique_id": f"p{a}", "problem": f"{a} plus {b}", "answer": str(a + b)} for a, b in sums]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    judged = [
        {"problem": f"{a} plus {b}", "steps": [f"{a} + {b} = {a + b + a % 2}.", f"The answer is {a + b + a % 2}."], "label": -(1 - a % 2)}
        for a, b in sums
    ]
    (folder / "benchmark.json").write_text(json.dumps([{"id": f"b{n}", **row} for n, row in enumerate(judged)]))
    engine = "{type='scripted', script='tests.actors.scripts:everyone'}"
    changes = [
        *(f"engines.{role}={engine}" for role in ("policy", "completer", "rationale", "verifier")),
        f"problems.path={folder / 'problems.jsonl'}",
        "problems.limit=1000",
        "problems.benchmarks=[]",
        f"evaluate.benchmark={folder / 'benchmark.json'}",
        "evaluate.limit=1000",
        f"search.problems={folder / 'problems.jsonl'}",
        "search.limit=1000",
        "train.epochs=4",
        *(f"pools.{stage}.rows_in_flight=4" for stage in ("rollouts", "estimates", "rationales", "evaluate", "search")),
        *more,
    ]
    return load("jobs/presets/test.toml", changes, run)


@contextlib.contextmanager
def killing(workers: Sequence[str], begun: Callable[[], bool]) -> Iterator[list[str]]:
    """For each of ``workers`` kill one of our own processes whose title begins so, once, as soon as ``begun``."""
    killed: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02) and len(killed) < len(workers):
            if begun():
                for process in psutil.Process().children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        title = " ".join(process.cmdline())
                        for worker in set(workers) - set(killed):
                            if title.startswith(worker):
                                process.kill()
                                killed.append(worker)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def loop(folder: Path, victims: dict[str, Sequence[str]]) -> tuple[Folder, dict[str, list[str]]]:
    """The whole loop stage by stage; in each stage of ``victims`` one worker of each title is killed after the first part."""
    run = Folder(str(folder / "run"))
    run.create()
    config = configuration(folder, run)
    tracker = Tracker(TrackingConfig(uri="off"), job="test", run=run, resolved={})
    kills: dict[str, list[str]] = {}

    def begun(stage: str) -> bool:
        if stage == "train":
            return (folder / "run" / "train" / "checkpoints" / "latest").is_file()
        return bool(parts.part_names(run, stage))

    def under_fire(stage: str, action: Callable[[], Any]) -> None:
        if stage not in victims:
            action()
            return
        with killing(victims[stage], lambda: begun(stage)) as kills[stage]:
            action()

    for stage in ("rollouts", "solutions", "estimates", "labels", "rationales", "conversations"):
        under_fire(stage, lambda stage=stage: synthesize(run, synthesis_settings(config), tracker, until=stage))  # type: ignore[misc]
    under_fire("train", lambda: training.train(run, config.train, conversations="conversations", tracker=tracker))
    evaluation.read_benchmark_stage(run, config.evaluate, tracker)
    under_fire("evaluate", lambda: evaluation.evaluate(run, evaluation_settings(config), tracker))
    under_fire("search", lambda: search.search(run, search_settings(config), tracker))
    return run, kills


def rows(run: Folder, stage: str) -> list[dict[str, Any]]:
    return sorted(parts.read_rows(run, stage), key=lambda row: str(row.get("id", row.get("problem_id"))))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Folder:
    return loop(tmp_path_factory.mktemp("calm"), {})[0]


def test_the_scripted_loop_judges_every_sum_rightly(calm: Folder) -> None:
    labels = parts.read_rows(calm, "labels")
    assert len(labels) == 2 * NUM_PROBLEMS
    assert {row["first_error"] for row in labels if row["outcome"] == "correct"} == {-1}
    assert {row["first_error"] for row in labels if row["outcome"] == "incorrect"} == {0}
    assert len(parts.read_rows(calm, "conversations")) == 2 * NUM_PROBLEMS
    assert evaluation.scores(calm)["votes/f1"] == 100.0
    assert search.scores(calm) == {
        "pass_at_1": 50.0, "majority": 100.0, "best_of_n": 100.0, "pass_at_n": 100.0, "critic_turn_0": 100.0, "critic_turn_1": 100.0,
    }  # fmt: skip


@pytest.mark.timeout(400)
def test_a_killed_worker_changes_nothing(calm: Folder, tmp_path: Path) -> None:
    victims: dict[str, Sequence[str]] = {
        "rollouts": ["ray::MapWorker(MapBatches(Rollouts))"],
        "estimates": ["ray::MapWorker(MapBatches(Estimates))"],
        "rationales": ["ray::MapWorker(MapBatches(Rationales))", "ray::CodeExecutor"],
        "train": ["ray::RayTrainWorker"],
        "evaluate": ["ray::MapWorker(MapBatches(Evaluate))", "ray::CodeExecutor"],
        "search": ["ray::MapWorker(MapBatches(Search))", "ray::CodeExecutor", "ray::EngineHost"],
    }
    run, kills = loop(tmp_path, victims)
    assert {stage: sorted(found) for stage, found in kills.items()} == {stage: sorted(titles) for stage, titles in victims.items()}
    for stage in ("rollouts", "solutions", "estimates", "labels", "rationales", "conversations", "evaluate", "search"):
        assert parts.read_rejects(run, stage) == parts.read_rejects(calm, stage)
        assert rows(run, stage) == rows(calm, stage)
    records = [(run / stage).read_json(parts.DONE) for stage in ("rollouts", "estimates", "rationales", "evaluate")]
    assert sum(record["rows_repeated"] for record in records) > 0
    for record in records:  # one worker died in each, with what it had in flight just then
        assert record["rows_repeated"] <= 4
        assert (record["tokens_repeated"] > 0) == (record["rows_repeated"] > 0)
        assert record["tokens_repeated"] < record["tokens"]
    steps = {True: parts.read_rows(calm, "train"), False: parts.read_rows(run, "train")}
    assert [row["step"] for row in steps[False]] == [row["step"] for row in steps[True]]
    assert [row["loss"] for row in steps[False]] == pytest.approx([row["loss"] for row in steps[True]], rel=1e-3)
