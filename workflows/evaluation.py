"""A ProcessBench file judged by a verifier: step rewards, first errors, F1 (section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from actors.code_executor import ExecutorConfig
from actors.engine import EngineConfig, open_engine
from actors.remote import Handles, Services
from actors.verifier import Verifier, VerifierConfig
from genprm.processbench import ProcessBenchScore, score
from genprm.records import BenchmarkSolution, JudgedSolution
from workflows.inputs.files import file_fingerprint
from workflows.identity import dump, engine_identity, executor_identity
from workflows.stage.parts import StageSummary, read_rejects, read_rows
from workflows.stage.pool import Pool
from workflows.inputs.problems import read_benchmark
from workflows.sections import EvaluateConfig
from workflows.stage.running import Stage, run_stage, run_table_stage
from workflows.stage.folder import Folder
from workflows.stage.tracking import Tracker

BENCHMARK = "benchmark"


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    seed: int
    engine: EngineConfig
    verifier: VerifierConfig
    evaluate: EvaluateConfig
    executor: ExecutorConfig
    pool: Pool


class EvaluateWorker:
    """benchmark solution -> judged solution"""

    def __init__(self, settings: EvaluationSettings, handles: Handles) -> None:
        self._verifier = Verifier(
            engine=open_engine(settings.engine), runner=handles.runner(), config=settings.verifier, run_seed=settings.seed
        )
        self._stop = settings.evaluate.stop_at_first_error

    async def process(self, row: dict[str, Any]) -> Sequence[JudgedSolution]:
        return [await self._verifier.judge(BenchmarkSolution.of(row), stop_at_first_error=self._stop)]


def read_benchmark_stage(run: Folder, config: EvaluateConfig, tracker: Tracker) -> StageSummary:
    """The benchmark's rows, checked."""
    plan = {
        "config": {"benchmark": config.benchmark, "limit": config.limit},
        "inputs": {config.benchmark: file_fingerprint(config.benchmark, "evaluate.benchmark")},
    }
    return run_table_stage(
        BENCHMARK,
        BenchmarkSolution,
        run,
        plan,
        lambda: read_benchmark(config.benchmark, config.limit, "evaluate.benchmark"),
        tracker,
    )


def evaluate(run: Folder, settings: EvaluationSettings, tracker: Tracker, *, name: str = "evaluate") -> StageSummary:
    """Judge the benchmark; ``name`` is the stage's, so that several verifiers can share a run."""
    stage = Stage(
        name=name,
        reads=BENCHMARK,
        key="id",
        writes=JudgedSolution,
        make_worker=partial(EvaluateWorker, settings),
        config=dump(
            ("seed", settings.seed),
            ("engine", engine_identity(settings.engine)),
            ("executor", executor_identity(settings.executor)),
            ("verifier", settings.verifier),
            ("stop_at_first_error", settings.evaluate.stop_at_first_error),
        ),
        pool=settings.pool,
        engine=settings.engine,
        services=Services(executors=settings.executor),
    )
    judged = run_stage(stage, run, tracker)
    summary = scores(run, name)
    tracker.metrics({f"{name}/{path}": value for path, value in summary.items()})
    return judged


def scores(run: Folder, name: str = "evaluate") -> dict[str, float]:
    """F1 and accuracies in percent, for the mean of the votes and for one vote; rejected rows count as wrong."""
    rows = [JudgedSolution.of(row) for row in read_rows(run, name)]
    labels = {row["id"]: int(row["label"]) for row in read_rows(run, BENCHMARK)}
    predictions: dict[str, int | None] = {row["id"]: None for row in read_rejects(run, name)}
    first: dict[str, int | None] = dict(predictions)
    for row in rows:
        predictions[row.id] = row.prediction
        first[row.id] = row.first_vote_prediction
    ids = sorted(labels)
    voted = score([predictions.get(key) for key in ids], [labels[key] for key in ids])
    single = score([first.get(key) for key in ids], [labels[key] for key in ids])
    return {
        **_percentages("votes", voted),
        **_percentages("one_vote", single),
        "unreadable_votes": float(sum(row.num_unreadable for row in rows)),
        "code_blocks": float(sum(row.num_code_blocks for row in rows)),
    }


def _percentages(prefix: str, result: ProcessBenchScore) -> dict[str, float]:
    return {f"{prefix}/{name}": float(value) for name, value in (asdict(result) | {"f1": result.f1}).items()}
