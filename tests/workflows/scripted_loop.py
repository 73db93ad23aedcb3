"""The whole loop with scripted engines, whose sums are right by half; and how to kill its workers on the way."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from jobs.config import Config, load
from jobs.settings import evaluation_settings, search_settings, synthesis_settings
from workflows import evaluation, parts, search, training
from workflows.stage.folder import Folder
from workflows.synthesis import synthesize
from workflows.stage.tracking import Tracker, TrackingConfig

NUM_PROBLEMS = 24


def configuration(folder: Path, run: Folder, more: Sequence[str] = ()) -> Config:
    sums = [(n, n + 1) for n in range(NUM_PROBLEMS)]
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
