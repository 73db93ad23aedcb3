"""Benchmarks judged by verifiers: step rewards, first errors, F1 (section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from actors.code_executor import ExecutorConfig
from actors.engine import open_engine
from actors.remote import Handles, Services
from actors.storage import Folder
from actors.verifier import Verifier
from genprm.processbench import ProcessBenchScore, score
from genprm.records import BenchmarkSolution, JudgedSolution
from genprm.section import Section
from workflows.config import Config
from workflows.inputs.benchmarks import BenchmarkConfig, iterate_benchmark
from workflows.models import trained_in
from workflows.sections import NamedVerifier
from workflows.stage.parts import read_rejects, read_rows
from workflows.stage.row_stage import RowStage
from workflows.stage.run import Run
from workflows.stage.stage import Stage, TableStage


class EvaluateSettings(Section):
    seed: int
    verifier: NamedVerifier
    executor: ExecutorConfig
    stop_at_first_error: bool


class EvaluateWorker:
    """benchmark solution -> judged solution"""

    def __init__(self, settings: EvaluateSettings, handles: Handles) -> None:
        self._verifier = Verifier(
            engine=open_engine(settings.verifier.engine), runner=handles.runner(), config=settings.verifier, run_seed=settings.seed
        )
        self._stop = settings.stop_at_first_error

    async def process(self, row: dict[str, Any]) -> Sequence[JudgedSolution]:
        return [await self._verifier.judge(BenchmarkSolution.of(row), stop_at_first_error=self._stop)]


def verifiers(config: Config) -> list[str]:
    """The names of those that judge."""
    return list(config.verifiers) if config.evaluate.verifiers is None else list(config.evaluate.verifiers)


def stages(config: Config, run: Folder) -> list[Stage]:
    """The benchmarks' rows, and each verifier's judgements of each benchmark."""
    found: list[Stage] = [benchmark(name, chosen) for name, chosen in config.benchmarks.items()]
    found += [evaluation(config, verifier, name, run) for verifier in verifiers(config) for name in config.benchmarks]
    return found


def benchmark(name: str, config: BenchmarkConfig) -> Stage:
    """The benchmark's rows, checked."""
    return TableStage(
        name=f"benchmarks/{name}",
        setting=f"benchmarks.{name}",
        writes=BenchmarkSolution,
        settings=config,
        make_rows=lambda _: iterate_benchmark(config, f"benchmarks.{name}.path"),
    )


def evaluation(config: Config, verifier: str, name: str, run: Folder) -> RowStage:
    """One verifier's judgements of one benchmark."""
    chosen = config.verifiers[verifier]
    return RowStage(
        name=f"evaluate/{verifier}/{name}",
        reads=(f"benchmarks/{name}",),
        after=trained_in(run, chosen.engine),
        key="id",
        writes=JudgedSolution,
        settings=EvaluateSettings(
            seed=config.seed, verifier=chosen, executor=config.executor, stop_at_first_error=config.evaluate.stop_at_first_error
        ),
        make_worker=EvaluateWorker,
        pool=config.pools.evaluate,
        limits=config.failures,
        engine=chosen.engine,
        services=Services(executors=config.executor),
    )


def report_scores(config: Config, run: Run) -> dict[str, dict[str, dict[str, float]]]:
    """`scores` of every verifier and benchmark, also to the tracking server; and ``average``, the macro average over benchmarks."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for verifier in verifiers(config):
        table[verifier] = {name: scores(run.folder, verifier, name) for name in config.benchmarks}
        table[verifier]["average"] = macro_average(list(table[verifier].values()))
        for name, values in table[verifier].items():
            run.tracker.metrics({f"evaluate/{verifier}/{name}/{path}": value for path, value in values.items()})
    return table


def macro_average(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each score in percent over the benchmarks, however large these are, as the paper's tables have it."""
    names = [name for name in scores[0] if name.endswith(("accuracy", "f1"))] if scores else []
    return {name: sum(row[name] for row in scores) / len(scores) for name in names}


def scores(run: Folder, verifier: str, name: str) -> dict[str, float]:
    """F1 and accuracies in percent, for the mean of the votes and for one vote; rejected rows count as wrong."""
    stage = f"evaluate/{verifier}/{name}"
    columns = ["id", "prediction", "first_vote_prediction", "num_unreadable", "num_code_blocks"]
    rows = read_rows(run, stage, columns)
    labels = {row["id"]: int(row["label"]) for row in read_rows(run, f"benchmarks/{name}", ["id", "label"])}
    predictions: dict[str, int | None] = {row["id"]: None for row in read_rejects(run, stage)}
    first: dict[str, int | None] = dict(predictions)
    for row in rows:
        predictions[row["id"]] = row["prediction"]
        first[row["id"]] = row["first_vote_prediction"]
    ids = sorted(labels)
    voted = score([predictions.get(key) for key in ids], [labels[key] for key in ids])
    single = score([first.get(key) for key in ids], [labels[key] for key in ids])
    return {
        **_percentages("votes", voted),
        **_percentages("one_vote", single),
        "unreadable_votes": float(sum(row["num_unreadable"] for row in rows)),
        "code_blocks": float(sum(row["num_code_blocks"] for row in rows)),
    }


def _percentages(prefix: str, result: ProcessBenchScore) -> dict[str, float]:
    return {f"{prefix}/{name}": float(value) for name, value in (asdict(result) | {"f1": result.f1}).items()}
