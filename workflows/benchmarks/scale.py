"""The real synthesis workflow at the paper's scale and beyond, with engines that answer at once: what the mechanism itself costs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from actors.remote import Handles
from actors.storage import Folder
from genprm.records import Problem
from genprm.section import Section
from workflows import synthesis
from workflows.benchmarks.s3_server import Server
from workflows.benchmarks.simulated import write_problems
from workflows.config import Config
from workflows.stage.graph import run_stage
from workflows.stage.ledger import Ledger
from workflows.stage.links import DONE
from workflows.stage.row_stage import RowStage
from workflows.stage.run import Run
from workflows.stage.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A stage: rows read, seconds in all and from its last commit to its end, MiB of the driver when it was over, files left."""

    stage: str
    rows: int
    seconds: float
    finish_s: float
    driver_mib: float
    files: int


def measure(stage: Stage, run: Run) -> Measured:
    began = time.time()
    summary = run_stage(stage, run)
    ended = time.time()
    last_commit = max(committed for _, _, committed in Ledger.read(run.folder / stage.name).spans.values())
    seconds, finish_s = ended - began, ended - last_commit
    files = sum(len(names) for _, _, names in os.walk(Path(run.folder.uri, stage.name)))
    rate = summary.rows_in / max(1e-9, seconds - finish_s)
    found = Measured(stage=stage.name, rows=summary.rows_in, seconds=seconds, finish_s=finish_s, driver_mib=driver_mib(), files=files)
    print(
        f"{found.stage:20} {found.rows:>10,} rows {seconds:7.1f} s {rate:>8,.0f} rows/s, end {found.finish_s:5.1f} s, driver "
        f"{found.driver_mib:6.0f} MiB, {found.files:3} files",
        flush=True,
    )
    return found


def driver_mib() -> float:
    """The memory of this process."""
    return float(psutil.Process().memory_info().rss) / (1 << 20)


def resume_s(stage: Stage, run: Run) -> float:
    """Seconds until an unfinished stage that has all its rows is finished again."""
    (run.folder / stage.name).delete(DONE)
    began = time.monotonic()
    run_stage(stage, run)
    return time.monotonic() - began


def synthesis_stages(config: Config, run: Run, file: Path, num_problems: int) -> dict[str, Stage]:
    """The stages of a synthesis of so many made-up problems, which ``file`` is to hold, by name, in their order."""
    problems = config.problems.model_copy(update={"path": write_problems(file, num_problems)})
    stages = {stage.name: stage for stage in synthesis.stages(config.model_copy(update={"problems": problems}), run.folder)}
    labels, conversations = next(iter(config.labels)), next(iter(config.conversations))
    names = ["problems", "rollouts", "solutions", "estimates/paper", f"labels/{labels}", "rationales", f"conversations/{conversations}"]
    return {name: stages[name] for name in names}


def scale_benchmark(config: Config, folder: Path, num_problems: int, num_light: int) -> dict[str, object]:
    """Prints a table; Ray must be connected."""
    run = Run.untracked(Folder(str(folder / "run")))
    begun_mib = driver_mib()
    stages = synthesis_stages(config, run, folder / "problems.jsonl", num_problems)
    measured = [measure(stage, run) for stage in stages.values()]
    resumed = max(resume_s(stages[name], run) for name in ("rollouts", "estimates/paper"))
    grown = measured[-1].driver_mib - measured[0].driver_mib
    largest = max(one.rows for one in measured)
    result: dict[str, object] = {
        "benchmark": "scale",
        "problems": num_problems,
        "driver_mb_per_100k_rows": round(grown * 1.048576 / (largest / 100_000), 1),
        "driver_mb": round(measured[-1].driver_mib * 1.048576),
        "finish_s": round(max(one.finish_s for one in measured), 1),
        "resume_s": round(resumed, 1),
        "files": max(one.files for one in measured),
        "rows_per_s": {one.stage: round(one.rows / max(1e-9, one.seconds - one.finish_s)) for one in measured},
        "began_mb": round(begun_mib * 1.048576),
    }
    if num_light:
        result["light"] = light(config, folder, num_light)
    return result


def requests_per_block(config: Config, server: Server, folder: Path, num_problems: int) -> dict[str, dict[str, float]]:
    """Of each stage with an engine of a run in an object store, by kind; a block is what is committed at once, from 16 rows on.

    What a stage costs however many blocks it has (plan, record, lock, listing for deletion) is part of it, and so is merging its parts.
    """
    run = Run.untracked(Folder(server.make_bucket("scale")) / "run")
    engine_stages = {"rollouts", "estimates", "rationales"}
    pools = {name: getattr(config.pools, name).model_copy(update={"commit_rows": 16}) for name in engine_stages}
    config = config.model_copy(update={"pools": config.pools.model_copy(update=pools)})
    found = {}
    for name, stage in synthesis_stages(config, run, folder / "stored.jsonl", num_problems).items():
        before = server.counts()
        run_stage(stage, run)
        num_blocks = Ledger.read(run.folder / name).num_commits
        if name.partition("/")[0] in engine_stages:
            found[name] = {kind: round(number / num_blocks, 2) for kind, number in sorted((server.counts() - before).items())}
            print(f"{name:20} {num_blocks:>10,} blocks in an object store; requests a block: {found[name]}", flush=True)
    return found


def light(config: Config, folder: Path, number: int) -> dict[str, object]:
    """Stages of tasks on so many rows: problems from a file, and a copy of each."""
    run = Run.untracked(Folder(str(folder / "light")))
    problems = config.problems.model_copy(update={"path": write_problems(folder / "many.jsonl", number)})
    before = driver_mib()
    copied = RowStage(name="copied", reads=("problems",), key="id", writes=Problem, settings=Section(), make_worker=Copier)
    found = [measure(synthesis.problems(problems), run), measure(copied, run)]
    return {
        "rows": number,
        "driver_mb_per_100k_rows": round((driver_mib() - before) * 1.048576 / (number / 100_000), 1),
        "rows_per_s": {one.stage: round(one.rows / max(1e-9, one.seconds - one.finish_s)) for one in found},
        "finish_s": round(max(one.finish_s for one in found), 1),
        "files": max(one.files for one in found),
    }


class Copier:
    """problem -> the same problem"""

    def __init__(self, _: Section, __: Handles) -> None:
        pass

    async def process(self, row: dict[str, Any]) -> Sequence[Problem]:
        return [Problem.of(row)]
