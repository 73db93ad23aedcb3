"""Grading of many completions against one reference, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from actors.engine import Completion, Finish
from actors.grading.pool import GradingPool
from genprm.grading import Grade, extract_answer, plain_equality
from genprm.records import Outcome
from genprm.section import Placement, Section


class GradingConfig(Section):
    """``timeout_s`` is the wall clock of one comparison; ``num_processes`` compare side by side in each worker."""

    LIBRARIES: ClassVar[tuple[str, ...]] = ("math-verify", "latex2sympy2-extended", "sympy")

    timeout_s: float = Field(default=5.0, gt=0)
    num_processes: Placement[int] = Field(default=1, ge=1)


class Grader:
    """Grades completions; what text alone decides never leaves this process."""

    def __init__(self, config: GradingConfig) -> None:
        self._timeout_s = config.timeout_s
        self._pool = GradingPool(num_processes=config.num_processes)

    async def grade_all(self, completions: Sequence[Completion], reference: str) -> list[Grade]:
        """One grade per completion, in order; a completion cut by its token limit is TRUNCATED, whatever it says."""
        found = [_by_text(completion, reference) for completion in completions]
        compared = iter(await asyncio.gather(*(self._compare(item, reference) for item in found if isinstance(item, str))))
        return [next(compared) if isinstance(item, str) else item for item in found]

    async def _compare(self, answer: str, reference: str) -> Grade:
        outcome = await asyncio.to_thread(self._pool.compare, answer, reference, timeout_s=self._timeout_s)
        return Grade(outcome=outcome, answer=answer)

    def close(self) -> None:
        self._pool.close()


def _by_text(completion: Completion, reference: str) -> Grade | str:
    """The grade, or the answer that takes a closer look."""
    answer = extract_answer(completion.text)
    if completion.finish is Finish.LENGTH:
        return Grade(outcome=Outcome.TRUNCATED, answer=answer)
    if answer is None:
        return Grade(outcome=Outcome.UNPARSABLE, answer=None)
    equal = plain_equality(answer, reference)
    if equal is None:
        return answer
    return Grade(outcome=Outcome.CORRECT if equal else Outcome.INCORRECT, answer=answer)
