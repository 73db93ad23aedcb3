"""The whole loop with scripted engines, half of whose sums are right; and how to kill its workers on the way."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from actors.storage import Folder
from jobs.config import load
from workflows import evaluation, search, synthesis
from workflows.config import Config
from workflows.stage import parts
from workflows.stage.graph import run_stages
from workflows.stage.ledger import Ledger
from workflows.stage.run import Run
from workflows.stage.stage import Stage

NUM_PROBLEMS = 12


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
        f"benchmarks={{sums={{path='{folder / 'benchmark.json'}'}}}}",
        f"search_problems={{sums={{path='{folder / 'problems.jsonl'}'}}}}",
        "verifiers={genprm={}}",
        "evaluate.verifiers=['genprm']",
        "search.verifiers=['genprm']",
        "train.epochs=4",
        "executor.preload=[]",
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


def all_stages(config: Config, run: Folder) -> list[Stage]:
    return [*synthesis.stages(config, run), *evaluation.stages(config, run), *search.stages(config, run)]


KINDS = ("rollouts", "solutions", "estimates", "rationales", "labels", "conversations", "evaluate", "search")


def loop(folder: Path, kinds: Sequence[str], victims: dict[str, Sequence[str]]) -> tuple[Folder, dict[str, list[str]]]:
    """These kinds of stages, one after the other; in each kind of ``victims`` one worker of each title is killed after the first part."""
    run = Run.untracked(Folder(str(folder / "run")))
    run.folder.create()
    stages = all_stages(configuration(folder, run.folder), run.folder)
    kills: dict[str, list[str]] = {}
    for kind in kinds:
        (stage,) = (stage.name for stage in stages if stage.name.partition("/")[0] == kind and stage.name != "estimates/thrifty")
        with killing(victims.get(kind, ()), lambda stage=stage: Ledger.is_begun(run.folder / stage)) as kills[kind]:  # type: ignore[misc]
            run_stages(stages, run, [stage])
    return run.folder, kills


def rows(run: Folder, stage: str) -> list[dict[str, Any]]:
    return sorted(parts.read_rows(run, stage), key=lambda row: str(row.get("id", row.get("problem_id"))))
