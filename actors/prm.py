"""GenPRM from Python, without Ray: problem and steps in; rewards, rationales and verdicts out.

from actors.prm import GenPRM

with GenPRM.in_process("path/or/name/of/a/model") as prm:
    for step in prm.judge(problem, steps):
        print(step.reward, step.verdict, step.votes[0].text)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from actors.code_executor import CodeExecutor, ExecutorConfig
from actors.engine import EngineConfig, HttpEngineConfig, VllmEngineConfig, open_engine
from actors.together import together
from actors.verifier import Verifier, VerifierConfig
from genprm.rationale import Verdict
from genprm.records import BenchmarkSolution, Vote
from genprm.reward import RIGHT_FROM

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class JudgedStep:
    """``reward`` in [0, 1] is the mean of the readable votes (None without one), ``verdict`` what it says about the step."""

    reward: float | None
    votes: tuple[Vote, ...]

    @property
    def verdict(self) -> Verdict:
        if self.reward is None:
            return Verdict.UNREADABLE
        return Verdict.YES if self.reward >= RIGHT_FROM else Verdict.NO


class GenPRM:
    """A generative process reward model with its engine and its code executor, in this process.

    Judgements depend on ``seed`` and the solution's text. Close it, or use it in a ``with`` statement.
    """

    def __init__(
        self, engine: EngineConfig, verifier: VerifierConfig | None = None, executor: ExecutorConfig | None = None, seed: int = 0
    ) -> None:
        """ValueError if the engine can't be started."""
        self._engine = open_engine(engine)
        self._loop = asyncio.new_event_loop()
        self._executor = CodeExecutor(executor or ExecutorConfig())
        self._verifier = Verifier(engine=self._engine, runner=self._executor, config=verifier or VerifierConfig(), run_seed=seed)
        self._thread = threading.Thread(target=self._loop.run_forever, name="genprm", daemon=True)
        self._thread.start()
        self._closed = False

    @classmethod
    def in_process(cls, model: str, verifier: VerifierConfig | None = None, **engine: Any) -> Self:
        """vLLM in this process; ``engine`` are fields of `VllmEngineConfig` (``num_gpus=0`` for its CPU build; ``core_process=True`` in a
        script that other processes may import)."""
        return cls(VllmEngineConfig(model=model, **{"core_process": False, **engine}), verifier)

    @classmethod
    def at(cls, base_url: str, model: str, verifier: VerifierConfig | None = None, **engine: Any) -> Self:
        """An OpenAI-compatible endpoint that can continue an assistant turn; ``engine`` are fields of `HttpEngineConfig`."""
        return cls(HttpEngineConfig(base_url=base_url, model=model, **engine), verifier)

    def judge(self, problem: str, steps: Sequence[str], *, stop_at_first_error: bool = False) -> tuple[JudgedStep, ...]:
        """Each step judged in turn; with ``stop_at_first_error`` up to the first one that is judged wrong."""
        return self.judge_all([(problem, steps)], stop_at_first_error=stop_at_first_error)[0]

    def judge_all(
        self, solutions: Sequence[tuple[str, Sequence[str]]], *, stop_at_first_error: bool = False
    ) -> list[tuple[JudgedStep, ...]]:
        """Many (problem, steps) at a time, which is how an engine is fast.

        EngineError or CodeRefused if one can't be judged; the others are ended then. RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError("this GenPRM is closed; make another")
        rows = [_row(problem, steps) for problem, steps in solutions]
        judging = together(*(self._verifier.judge(row, stop_at_first_error=stop_at_first_error) for row in rows))
        return [
            tuple(JudgedStep(reward=reward, votes=votes) for reward, votes in zip(judged.rewards_S, judged.votes_S, strict=True))
            for judged in self._run(judging)
        ]

    def close(self) -> None:
        """End the executor's processes and the engine; a second time does nothing."""
        if self._closed:
            return
        try:
            self._run(self._executor.shutdown())
        finally:
            self._closed = True
            self._engine.close()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _row(problem: str, steps: Sequence[str]) -> BenchmarkSolution:
    if isinstance(steps, str) or not steps or not all(isinstance(step, str) and step.strip() for step in steps):
        raise ValueError(f"steps = {steps!r}: give a list of texts, one a step, none of them empty")
    return BenchmarkSolution(id="\n".join([problem, *steps]), problem=problem, steps=tuple(steps), label=-1)
