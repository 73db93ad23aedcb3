"""What each stage of a run comes to, one after another: rows, tokens, GPU hours, wall time, money.

Rows and tokens follow from the configuration and from assumptions: rollouts and estimates by their own rules on simulated policies and
solutions, the others by arithmetic. Where a run has measured a stage, its means a row take the place of the assumptions. GPU hours
follow from tokens by `workflows.planning.hardware`, or are the run's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from actors.engine.config import EngineConfig, HttpEngineConfig, VllmEngineConfig
from actors.estimator import Estimator, EstimatorConfig
from actors.storage import Folder
from actors.training.config import TrainConfig
from genprm.errors import UserError
from workflows.config import Config
from workflows.inputs.benchmarks import iterate_benchmark
from workflows.inputs.problems import iterate_problems
from workflows.planning.assumptions import Assumption
from workflows.planning.hardware import Gpu, model_of, speed
from workflows.planning.prices import Prices
from workflows.planning.simulated import POLICIES, WORLDS, KnownCompleter, made_up, sample_paths
from workflows.report import Table, short
from workflows.stage.parts import RejectedRow
from workflows.stages import every_stage
from workflows.status import StageStatus, stage_status

SIMULATED_PROBLEMS = 1000
SIMULATED_SOLUTIONS = 100
ESTIMATED = "one-drop"
"""The kind of made-up solutions (`workflows.planning.simulated.WORLDS`) that estimators are tried on."""


@dataclass(frozen=True, kw_only=True)
class StageForecast:
    """``gpus`` are held for ``wall_s``; ``basis`` is how its tokens are known."""

    stage: str
    rows_in: float
    rows_out: float
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    gpus: float = 0.0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    wall_s: float = 0.0
    is_endpoint: bool = False
    basis: str = "assumed"

    def cost(self, prices: Prices) -> float:
        hours = self.gpu_hours * prices.gpu_hour + self.cpu_hours * prices.cpu_hour
        if not self.is_endpoint:
            return hours
        tokens = self.prompt_tokens * prices.million_prompt_tokens + self.completion_tokens * prices.million_completion_tokens
        return hours + tokens / 1e6


@dataclass(kw_only=True)
class Planner:
    """Makes the forecasts of a configuration's stages, each from those before."""

    config: Config
    assumed: Mapping[str, Assumption]
    gpu: Gpu
    measured: Mapping[str, StageStatus] = field(default_factory=dict)
    problems: int | None = None

    def stages(self) -> list[StageForecast]:
        """In the order in which they are made; each table of the configuration has its own."""
        config = self.config
        found = [self._rollouts()]
        solutions = found[0].rows_out
        read = {labels.estimates for labels in config.labels.values() if labels.rule != "given"}  # others are made by no job but the demo
        found += [self._estimates(name, estimator, solutions) for name, estimator in config.estimates.items() if name in read]
        found.append(self._rationales(solutions))
        kept = self._rows_out("conversations", found[-1].rows_out, self.value_of("kept_share"))
        found += [self._training(name, model, kept) for name, model in config.models.items()]
        verifiers = config.verifiers if config.evaluate.verifiers is None else config.evaluate.verifiers
        found += [self._evaluation(verifier, name) for verifier in verifiers for name in config.benchmarks]
        verifiers = config.verifiers if config.search.verifiers is None else config.search.verifiers
        return [*found, *(self._search(verifier, name) for verifier in verifiers for name in config.search_problems)]

    def value_of(self, name: str) -> float:
        """Of an assumption."""
        return self.assumed[name].value

    def _rows_out(self, kind: str, rows_in: float, share: float) -> float:
        """By the share that the run has measured, of the first stage of the kind, or else the assumed one."""
        found = next((stage for name, stage in self.measured.items() if name.partition("/")[0] == kind), None)
        return rows_in * (found.rows_out / found.done if found is not None and found.done else share)

    # --- the stages ---

    def _rollouts(self) -> StageForecast:
        problems = float(self.problems or self.value_of("problems"))
        accuracy = self.value_of("policy_accuracy")
        policy = min(POLICIES.values(), key=lambda rates: abs(rates.draw(2000, np.random.default_rng(0)).mean() - accuracy))
        paths, solutions, _ = sample_paths(policy.draw(SIMULATED_PROBLEMS, np.random.default_rng(0)), self.config.rollouts)
        a_problem = problems / SIMULATED_PROBLEMS
        made = self._generated(
            "rollouts",
            self.config.engines.policy,
            self.config.pools.rollouts.least,
            rows=problems,
            rows_out=a_problem * solutions,
            prompt=problems * self.value_of("problem_tokens"),
            completion=a_problem * paths * self.value_of("solution_tokens"),
            context=self.value_of("problem_tokens") + self.value_of("solution_tokens") / 2,
        )
        spread = self.measured.get("solutions")  # its rows are problems, too
        return replace(made, rows_out=problems * spread.rows_out / spread.done) if spread is not None and spread.done else made

    def _estimates(self, name: str, estimator: EstimatorConfig, solutions: float) -> StageForecast:
        steps, length = self.value_of("solution_steps"), self.value_of("solution_tokens")
        around = (max(2, round(steps / 2)), max(3, round(1.5 * steps)))
        made = made_up(WORLDS[ESTIMATED], SIMULATED_SOLUTIONS, num_steps=around, tokens=lambda share: (1 - share) * length)

        async def spend() -> float:
            runner = Estimator(completer=KnownCompleter(made, seed=0), config=estimator)
            spent = await asyncio.gather(*(runner.estimate(solution) for solution in made))
            # The bare problem is sampled once for all solutions of a problem, and each of these has a problem of its own.
            starts = sum(one.tokens_T[0] for one in spent)
            return (sum(one.num_tokens for one in spent) - starts * (1 - 1 / self._solutions_a_problem())) / len(made)

        return self._generated(
            f"estimates/{name}",
            self.config.engines.completer,
            self.config.pools.estimates.least,
            rows=solutions,
            prompt=solutions * (self.value_of("problem_tokens") + length),
            completion=solutions * asyncio.run(spend()),
            context=self.value_of("problem_tokens") + 0.75 * length,
        )

    def _solutions_a_problem(self) -> float:
        return 2.0 * self.config.rollouts.keep_per_kind

    def _rationales(self, solutions: float) -> StageForecast:
        asked = self.value_of("problem_tokens") + self.value_of("solution_tokens")
        tokens = self.value_of("rationale_tokens")
        return self._generated(
            "rationales",
            self.config.engines.rationale,
            self.config.pools.rationales.least,
            rows=solutions,
            prompt=solutions * asked,
            completion=solutions * tokens,
            context=asked + tokens / 2,
            executors=True,
        )

    def _training(self, name: str, model: TrainConfig, conversations: float) -> StageForecast:
        stage = f"train/{name}"
        length = self.value_of("problem_tokens") + self.value_of("solution_tokens") + self.value_of("response_tokens")
        tokens = conversations * model.epochs * min(length, model.max_length)
        workers = model.num_workers
        made = StageForecast(
            stage=stage, rows_in=conversations, rows_out=conversations, completion_tokens=tokens, gpus=workers * model.num_gpus
        )
        if model.num_gpus:
            operations = (8 if model.gradient_checkpointing else 6) * model_of(model.base_model).parameters * tokens
            seconds = operations / (made.gpus * self.gpu.flops * self.value_of("train_mfu"))
            made = self._timed(made, seconds, cpus=workers * model.num_cpus)
        return self._as_measured(made)

    def _evaluation(self, verifier: str, name: str) -> StageForecast:
        config = self.config.verifiers[verifier]
        rows = self._benchmark_rows(name)
        steps = self.value_of("steps_to_first_error") if self.config.evaluate.stop_at_first_error else self.value_of("solution_steps")
        completion, context = self._judging(rows, steps, config.num_votes)
        return self._generated(
            f"evaluate/{verifier}/{name}",
            config.engine,
            self.config.pools.evaluate.least,
            rows=rows,
            prompt=rows * (self.value_of("problem_tokens") + self.value_of("solution_tokens")),
            completion=completion,
            context=context,
            executors=True,
        )

    def _search(self, verifier: str, name: str) -> StageForecast:
        config, search, pool = self.config.verifiers[verifier], self.config.search, self.config.pools.search
        rows = self._search_rows(name)
        judged, context = self._judging(rows * search.num_candidates, self.value_of("solution_steps"), search.num_votes)
        critic, _ = self._judging(rows * search.critic_turns, self.value_of("steps_to_first_error"), search.critic_votes)
        asked = self.value_of("problem_tokens") + self.value_of("solution_tokens")
        rewrites = search.critic_turns * self.value_of("rewritten_share")
        written = rows * (search.num_candidates + rewrites) * self.value_of("solution_tokens")
        made = self._generated(
            f"search/{verifier}/{name}",
            config.engine,
            pool.least,
            rows=rows,
            prompt=rows * (search.num_candidates + search.critic_turns) * asked,
            completion=judged + critic,
            context=context,
            executors=True,
            beside=(self.config.engines.policy, pool.num_policy_engines),
        )
        return made if made.basis != "assumed" else replace(made, completion_tokens=made.completion_tokens + written)

    def _judging(self, rows: float, steps: float, votes: int) -> tuple[float, float]:
        """Tokens, and the context of a judgement on average: the solution and half of its judgements."""
        tokens = self.value_of("judged_step_tokens")
        return rows * steps * votes * tokens, self.value_of("problem_tokens") + self.value_of("solution_tokens") + steps * tokens / 2

    # --- from tokens to hours ---

    def _generated(
        self,
        stage: str,
        engine: EngineConfig,
        workers: int,
        *,
        rows: float,
        prompt: float,
        completion: float,
        context: float,
        rows_out: float | None = None,
        executors: bool = False,
        beside: tuple[EngineConfig, int] | None = None,
    ) -> StageForecast:
        """``beside`` are engines of another role that are held as long."""
        made = StageForecast(
            stage=stage,
            rows_in=rows,
            rows_out=rows if rows_out is None else rows_out,
            prompt_tokens=prompt,
            completion_tokens=completion,
            gpus=workers * _gpus(engine) + (beside[1] * _gpus(beside[0]) if beside else 0.0),
            is_endpoint=isinstance(engine, HttpEngineConfig),
        )
        before = self.measured.get(stage)
        if before is not None and before.done:
            made = replace(made, completion_tokens=rows * before.tokens / before.done)
        if isinstance(engine, VllmEngineConfig) and engine.num_gpus:
            num_gpus = engine.num_gpus * engine.num_nodes
            found = speed(
                self._model(engine.model),
                self.gpu,
                num_gpus,
                context=context,
                sequences=float(engine.max_num_seqs or self.value_of("sequences")),
                decode=self.value_of("decode_efficiency"),
                prefill=self.value_of("prefill_efficiency"),
            )
            seconds = made.completion_tokens / found.generated + made.prompt_tokens / found.read
            code = self.config.executor
            cpus = workers * engine.num_cpus + (code.num_executors * code.num_cpus if executors else 0.0)
            made = self._timed(made, seconds / self.value_of("stage_efficiency") / workers + self.value_of("engine_start_s"), cpus=cpus)
        return self._as_measured(made)

    def _timed(self, made: StageForecast, seconds: float, *, cpus: float) -> StageForecast:
        return replace(made, wall_s=seconds, gpu_hours=made.gpus * seconds / 3600, cpu_hours=cpus * seconds / 3600)

    def _as_measured(self, made: StageForecast) -> StageForecast:
        """With what the run has measured of this stage, a row."""
        before = self.measured.get(made.stage)
        if before is None or not before.done:
            return made
        rows = made.rows_in / before.done
        found = replace(
            made,
            completion_tokens=before.tokens * rows,
            rows_out=made.rows_out if made.stage == "rollouts" else before.rows_out * rows,
            basis="measured",
        )
        if before.usage.gpu_s:
            hours = before.usage.gpu_s * rows / 3600
            return replace(found, gpu_hours=hours, cpu_hours=before.usage.cpu_s * rows / 3600, wall_s=3600 * hours / max(1.0, made.gpus))
        if not made.gpus and before.rows_per_s:
            return replace(found, cpu_hours=before.usage.cpu_s * rows / 3600, wall_s=made.rows_in / before.rows_per_s)
        return found

    def _model(self, name: str) -> Any:
        """Of a verifier that the run trains: the model that it is trained from."""
        for trained, model in self.config.models.items():
            if f"/train/{trained}/" in name:
                return model_of(model.base_model)
        return model_of(name)

    def _benchmark_rows(self, name: str) -> float:
        try:
            return float(sum(not isinstance(row, RejectedRow) for row in iterate_benchmark(self.config.benchmarks[name], "")))
        except UserError:
            return self.value_of("benchmark_rows")

    def _search_rows(self, name: str) -> float:
        try:
            return float(sum(not isinstance(row, RejectedRow) for row in iterate_problems(self.config.search_problems[name], "")))
        except UserError:
            return self.value_of("search_rows")


def _gpus(engine: EngineConfig) -> float:
    return engine.num_gpus * engine.num_nodes


def num_problems(config: Config) -> int | None:
    """Of the configuration's file; None if it can't be read here."""
    try:
        return sum(not isinstance(row, RejectedRow) for row in iterate_problems(config.problems, "problems.path"))
    except UserError:
        return None


def measured_stages(config: Config, run: Folder) -> dict[str, StageStatus]:
    """The stages of a configuration that are finished in a run, by name; UserError if there is none."""
    found = (stage_status(run, stage.name) for stage in every_stage(config, run))
    finished = {stage.stage: stage for stage in found if stage.state == "finished"}
    if not finished:
        raise UserError(f"{run.uri}: no stage of this configuration is finished there; nothing is measured")
    return finished


# --- for people ---


def table(stages: Sequence[StageForecast], prices: Prices | None) -> Table:
    rows = [_cells(stage, prices) for stage in stages]
    total = StageForecast(
        stage="all",
        rows_in=0,
        rows_out=0,
        prompt_tokens=sum(stage.prompt_tokens for stage in stages),
        completion_tokens=sum(stage.completion_tokens for stage in stages),
        gpu_hours=sum(stage.gpu_hours for stage in stages),
        cpu_hours=sum(stage.cpu_hours for stage in stages),
        wall_s=sum(stage.wall_s for stage in stages),
        basis="",
    )
    last = _cells(total, None)
    last[1:3] = ["", ""]
    if prices is not None:
        last.append(f"{sum(stage.cost(prices) for stage in stages):,.0f}")
    money = [prices.currency] if prices is not None else []
    head = ("stage", "rows", "tokens by", "read", "written", "GPUs", "GPU h", "CPU h", "hours", *money)
    return Table(title="Plan (stages one after another)", head=head, rows=[*rows, last])


def _cells(stage: StageForecast, prices: Prices | None) -> list[str]:
    cells = [
        stage.stage,
        f"{stage.rows_in:,.0f}",
        stage.basis,
        short(stage.prompt_tokens) if stage.prompt_tokens else "",
        short(stage.completion_tokens),
        f"{stage.gpus:g}" if stage.gpus else "",
        f"{stage.gpu_hours:,.1f}" if stage.gpu_hours else "",
        f"{stage.cpu_hours:,.1f}" if stage.cpu_hours else "",
        f"{stage.wall_s / 3600:,.2f}" if stage.wall_s else "",
    ]
    return cells if prices is None else [*cells, f"{stage.cost(prices):,.0f}"]
