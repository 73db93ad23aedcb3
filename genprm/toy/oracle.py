"""The oracle: an exact judge of every step of any solution text in the arithmetic world.

A step is judged on its own, given the value that the steps before it state: it must do the next operation of the
problem (or check the last one) on that value, and do it right. So a step that carries an earlier mistake on correctly
is right, and the first step that is not right is the solution's first error.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from genprm.toy.world import Operation, ToyProblem

CHECK_WORD = "Check"
_EQUATION = re.compile(r"(?<![\d.])(\d{1,6}) ([+\-*]) (\d{1,6}) = (\d{1,6})(?!\d)", re.ASCII)
_BOXED = re.compile(r"\\boxed\{(\d{1,6})\}", re.ASCII)


class Judgement(enum.StrEnum):
    RIGHT = "right"
    CALCULATION_SLIP = "calculation_slip"
    READING_SLIP = "reading_slip"
    UNPARSABLE = "unparsable"


@dataclass(frozen=True, kw_only=True)
class StepView:
    """What one step should do and what it claims; ``expected`` is None for the final answer once all is done."""

    judgement: Judgement
    operation_index: int | None
    is_check: bool
    expected: tuple[int, Operation] | None
    expected_answer: int | None
    claimed: int | None


def examine(problem: ToyProblem, steps: Sequence[str]) -> list[StepView]:
    """Judge every step; one view per step, in order."""
    views: list[StepView] = []
    value = problem.start
    before_last = problem.start
    done = 0
    for step in steps:
        boxed = _BOXED.findall(step)
        equations = _EQUATION.findall(step)
        is_check = step.lstrip().startswith(CHECK_WORD)
        if len(boxed) + len(equations) != 1:
            views.append(_view(Judgement.UNPARSABLE))
            continue
        if is_check and equations and done > 0:
            index, left = done - 1, before_last
        elif done < len(problem.operations):
            index, left = done, value
        else:
            claimed = int(boxed[0]) if boxed else int(equations[0][3])
            right = bool(boxed) and claimed == value
            views.append(
                StepView(
                    judgement=Judgement.RIGHT if right else Judgement.READING_SLIP,
                    operation_index=None,
                    is_check=False,
                    expected=None,
                    expected_answer=value,
                    claimed=claimed,
                )
            )
            if equations:
                value = claimed
            continue
        operation = problem.operations[index]
        if boxed:
            views.append(_view(Judgement.READING_SLIP, index, False, (left, operation), int(boxed[0])))
            continue
        a, operator, b, c = equations[0]
        claimed = int(c)
        if (int(a), operator, int(b)) != (left, operation.operator, operation.operand):
            judgement = Judgement.READING_SLIP
        elif operation.apply(left) != claimed:
            judgement = Judgement.CALCULATION_SLIP
        else:
            judgement = Judgement.RIGHT
        views.append(_view(judgement, index, is_check and index == done - 1, (left, operation), claimed))
        if index == done:
            before_last = value
            done += 1
        value = claimed
    return views


def _view(
    judgement: Judgement,
    index: int | None = None,
    is_check: bool = False,
    expected: tuple[int, Operation] | None = None,
    claimed: int | None = None,
) -> StepView:
    return StepView(judgement=judgement, operation_index=index, is_check=is_check, expected=expected, expected_answer=None, claimed=claimed)


def judge_steps(problem: ToyProblem, steps: Sequence[str]) -> list[Judgement]:
    return [view.judgement for view in examine(problem, steps)]


def first_error(problem: ToyProblem, steps: Sequence[str]) -> int:
    """0-based index of the first step that is not right; -1 if every step is right."""
    for index, judgement in enumerate(judge_steps(problem, steps)):
        if judgement is not Judgement.RIGHT:
            return index
    return -1


def answer_is_right(problem: ToyProblem, steps: Sequence[str]) -> bool:
    """Whether the last boxed number of the last step is the problem's answer."""
    boxed = _BOXED.findall(steps[-1]) if steps else []
    return bool(boxed) and int(boxed[-1]) == problem.answer
