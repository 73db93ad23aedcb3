"""Grading of many completions against one reference, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from actors.engine import Completion, Finish
from actors.grading.pool import GradingPool
from genprm.grading import Grade, best, plain_equality, stated_answers
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
        return list(await asyncio.gather(*(self._grade(completion, reference) for completion in completions)))

    async def _grade(self, completion: Completion, reference: str) -> Grade:
        answers = stated_answers(completion.text)
        if completion.finish is Finish.LENGTH:
            return Grade(outcome=Outcome.TRUNCATED, answer=next(iter(answers), None))
        grades = []
        for answer in answers:
            equal = plain_equality(answer, reference)
            plain = Grade(outcome=Outcome.CORRECT if equal else Outcome.INCORRECT, answer=answer)
            grades.append(await self._compare(answer, reference) if equal is None else plain)
        return best(grades)

    async def _compare(self, answer: str, reference: str) -> Grade:
        outcome = await asyncio.to_thread(self._pool.compare, answer, reference, timeout_s=self._timeout_s)
        return Grade(outcome=outcome, answer=answer)

    async def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        """For each answer the number of its class of equal answers (``1/2``, ``\\frac{1}{2}``, ``0.5``), from 0 in order of appearance;
        None where there is no answer.

        An answer is compared with the first of each class, and belongs to the earliest to which it is equal; one that is no mathematics,
        or takes too long, is equal to its own text only.
        """
        first: list[str] = []
        numbers: dict[str, int] = {}
        for answer in answers:
            if answer is None or answer in numbers:
                continue
            known = [plain_equality(answer, other) for other in first]
            closer = [number for number, equal in enumerate(known) if equal is None] if True not in known else []
            grades = await asyncio.gather(*(self._compare(answer, first[number]) for number in closer))
            equal = [number for number, grade in zip(closer, grades, strict=True) if grade.outcome is Outcome.CORRECT]
            number = known.index(True) if True in known else min(equal, default=len(first))
            if number == len(first):
                first.append(answer)
            numbers[answer] = number
        return [None if answer is None else numbers[answer] for answer in answers]

    def close(self) -> None:
        self._pool.close()
