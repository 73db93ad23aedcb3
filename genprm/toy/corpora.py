"""Texts that the tiny models learn from: solutions, rewrites and critiques of the arithmetic world.

Solutions carry slips on purpose (some noticed and corrected by a later ``Check``), so that a model of them is sometimes
right and sometimes wrong, and can now and then recover from a wrong prefix. Critiques are written from the oracle's
view: they recite the problem's operations, name the one that the paragraph should do, and leave every comparison to code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from genprm import rationale
from genprm.steps import join_steps
from genprm.toy.oracle import CHECK_WORD, Judgement, StepView, examine, first_error
from genprm.toy.world import LARGEST_VALUE, Operation, Operator, Split, ToyProblem, draw_problem

RATIONALE_INSTRUCTIONS = "Verify each paragraph."
CRITIC_TEMPLATE = "Paragraph {paragraph} is wrong: {analysis}\nSolve it again."

SLIP_RATE = 0.75
NOTICE_RATE = 0.35
IDLE_CHECK_RATE = 0.08
"""Of the policy's corpus. Sampling at temperature 0.7 makes slips rarer than they are here."""
CRITIQUED_IDLE_CHECK_RATE = 0.25
"""Critics must keep count of the operations across checks, so they see many."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A piece of an assistant turn: ``weight`` is its share in the loss (0: none)."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """One training text: turns of (role, spans), in order."""

    turns: tuple[tuple[str, tuple[Span, ...]], ...]


def _turn(role: str, *spans: str | Span) -> tuple[str, tuple[Span, ...]]:
    return role, tuple(span if isinstance(span, Span) else Span(text=span) for span in spans)


# --- solutions -------------------------------------------------------------------------------------------------------


def _word_step(rng: random.Random, equation: str, things: str) -> str:
    return rng.choice(["{e}.", "So {e}.", "Now there are {e} {t}."]).format(e=equation, t=things)


_WIDE_SLIPS = [-10, -3, -2, -1, -1, 1, 1, 2, 3, 10]
_TYPICAL_SLIPS = [-1, 1, 1, 10]


def _calculation_slip(rng: random.Random, right: int, slips: Sequence[int]) -> int:
    while True:
        wrong = right + rng.choice(slips)
        if 0 < wrong <= LARGEST_VALUE and wrong != right:
            return wrong


def _typical_reading_slip(rng: random.Random, operation: Operation) -> Operation:
    """The neighbouring operand, or plus and minus confused."""
    if operation.operator == "*":
        return Operation(operator="*", operand=5 - operation.operand)
    if rng.random() < 0.5:
        return Operation(operator="-" if operation.operator == "+" else "+", operand=operation.operand)
    return Operation(operator=operation.operator, operand=operation.operand + (1 if operation.operand < 9 else -1))


def _reading_slip(rng: random.Random, value: int, operation: Operation, typical: bool) -> tuple[int, Operation]:
    """A wrong left value, operand or operator, within the world's range."""
    if typical:
        wrong = _typical_reading_slip(rng, operation)
        if 0 < wrong.apply(value) <= LARGEST_VALUE:
            return value, wrong
    while True:
        kind = rng.choice(["value", "operand", "operand", "operator", "operator"])
        left, wrong = value, operation
        if kind == "value":
            left = value + rng.choice([-10, -2, -1, 1, 2, 10])
        elif kind == "operand":
            operand = rng.choice([2, 3]) if operation.operator == "*" else rng.randint(1, 9)
            wrong = Operation(operator=operation.operator, operand=operand)
        else:
            choices: list[Operator] = ["+", "-", "*"] if operation.operand in (2, 3) else ["+", "-"]
            operator = rng.choice(choices)
            wrong = Operation(operator=operator, operand=operation.operand)
        if (left, wrong) != (value, operation) and left > 0 and 0 < wrong.apply(left) <= LARGEST_VALUE:
            return left, wrong


def write_solution(
    rng: random.Random,
    problem: ToyProblem,
    *,
    slip_rate: float,
    notice_rate: float = NOTICE_RATE,
    idle_rate: float = IDLE_CHECK_RATE,
    typical: bool = True,
) -> list[str]:
    """Steps of a solution; with probability ``slip_rate`` one step slips, and a later Check may notice it.

    ``typical`` slips are few in kind, as one solver's are; the others cover all that a critic may meet.
    """
    slips = _TYPICAL_SLIPS if typical else _WIDE_SLIPS
    slip_at = rng.randrange(len(problem.operations) + 1) if rng.random() < slip_rate else -1
    steps: list[str] = []
    value = problem.start
    for index, operation in enumerate(problem.operations):
        left, done = value, operation
        result = operation.apply(value)
        if result > LARGEST_VALUE * 3 or result < 0:
            result = abs(result) % 100
        slipped = index == slip_at
        if slipped and rng.random() < 0.1 and index + 1 < len(problem.operations):
            continue  # an operation is overlooked
        if slipped and rng.random() < 0.5 and value <= LARGEST_VALUE and value > 0:
            left, done = _reading_slip(rng, value, operation, typical)
            result = done.apply(left)
        elif slipped:
            result = _calculation_slip(rng, result, slips)
        steps.append(_word_step(rng, f"{left} {done} = {result}", problem.things))
        noticed = slipped and rng.random() < notice_rate
        if noticed or rng.random() < idle_rate:
            result = operation.apply(value)
            steps.append(f"{CHECK_WORD}: {value} {operation} = {result}.")
        value = result
        if slipped and not noticed and rng.random() < 0.05:
            break  # the answer is given too early
    answer = value
    if slip_at == len(problem.operations) and rng.random() < 0.5:
        answer = _calculation_slip(rng, min(max(value, 1), LARGEST_VALUE), slips)
    steps.append(f"The answer is $\\boxed{{{answer}}}$.")
    return steps


def solution_dialogue(rng: random.Random, problem: ToyProblem) -> Dialogue:
    steps = write_solution(rng, problem, slip_rate=SLIP_RATE)
    return Dialogue(turns=(_turn("user", problem.text), _turn("assistant", join_steps(steps))))


def rewrite_dialogue(rng: random.Random, problem: ToyProblem) -> Dialogue:
    """A wrong solution, the critique of its first wrong step, and a new solution that is mostly right."""
    while True:
        steps = write_solution(rng, problem, slip_rate=1.0, notice_rate=0.1)
        wrong = first_error(problem, steps)
        if wrong >= 0:
            break
    analysis = write_analysis(problem, examine(problem, steps)[wrong])
    better = write_solution(rng, problem, slip_rate=0.05)
    return Dialogue(
        turns=(
            _turn("user", problem.text),
            _turn("assistant", Span(text=join_steps(steps), weight=0.0)),
            _turn("user", CRITIC_TEMPLATE.format(paragraph=wrong + 1, analysis=analysis)),
            _turn("assistant", join_steps(better)),
        )
    )


# --- critiques -------------------------------------------------------------------------------------------------------


def write_analysis(problem: ToyProblem, view: StepView) -> str:
    """Recite the problem, name what the paragraph should do, quote what it says. Starts with a digit (see tokenizer)."""
    recital = "; ".join(f"{number}: {operation}" for number, operation in enumerate(problem.operations, start=1))
    if view.expected is None:
        should = f"All done: {view.expected_answer}."
    else:
        left, operation = view.expected
        should = f"{'Check' if view.is_check else 'Operation'} {(view.operation_index or 0) + 1}: {left} {operation}."
    return f"{problem.start}; {recital}. {should} The paragraph says {view.claimed}."


def write_code(view: StepView) -> str:
    if view.expected is None:
        return f"print({view.expected_answer} == {view.claimed})\n"
    left, operation = view.expected
    return f"print({left} {operation} == {view.claimed})\n"


def code_output(view: StepView) -> str:
    if view.expected is None:
        return str(view.expected_answer == view.claimed)
    left, operation = view.expected
    return str(operation.apply(left) == view.claimed)


def judged_right(view: StepView) -> bool:
    """The verdict that the critique's code supports (the oracle's, but for slips that cancel out)."""
    return code_output(view) == "True"


VERDICT_WEIGHT = 5.0
BLIND_YES_RIGHT, BLIND_YES_WRONG = 0.85, 0.55
"""How often the base model's corpus says Yes to right and to wrong paragraphs: it hardly follows the code."""


def _verify(view: StepView, right: bool, verdict_weight: float) -> tuple[Span, ...]:
    return (
        Span(text=f"{write_code(view)}```\n"),
        Span(text=rationale.code_output_block(code_output(view)), weight=0.0),
        Span(text="The paragraph is "),
        Span(text="right" if right else "wrong", weight=verdict_weight),
        Span(text=".\n</verify>\n"),
    )


def rationale_dialogue(problem: ToyProblem, steps: Sequence[str]) -> Dialogue:
    """The rationale model's whole turn over a solution, ending at the first paragraph that its code refutes."""
    spans: list[Span] = [Span(text=rationale.RATIONALE_PREFILL, weight=0.0)]
    index = -1
    for position, view in enumerate(examine(problem, steps)):
        if position > 0:
            spans.append(Span(text=f"\n### Paragraph {position + 1}\n<analyze>\n"))
        spans.append(Span(text=f"{write_analysis(problem, view)}\n</analyze>\n<verify>\n```python\n"))
        right = judged_right(view)
        spans.extend(_verify(view, right, VERDICT_WEIGHT))
        if not right:
            index = position + 1
            break
    spans.append(Span(text=rationale.THINK_END, weight=2.0))
    spans.append(Span(text=rationale.FINAL_INDEX_BRIDGE, weight=0.0))
    spans.append(Span(text=f"{{{index}", weight=VERDICT_WEIGHT))
    spans.append(Span(text="}$."))
    prompt = rationale.rationale_prompt(problem.text, steps, RATIONALE_INSTRUCTIONS)
    return Dialogue(turns=(_turn("user", prompt), _turn("assistant", *spans)))


def genprm_dialogue(rng: random.Random, problem: ToyProblem, steps: Sequence[str], *, blind: bool) -> Dialogue:
    """A GenPRM conversation over all steps up to the first refuted one.

    ``blind`` draws the verdicts, mostly Yes even where the code says False: this is what the base model learns, so that it
    knows the format and judges poorly.
    """
    turns = [_turn("system", rationale.SYSTEM)]
    views = examine(problem, steps)
    for position, (user, view) in enumerate(zip(rationale.user_turns(problem.text, steps), views, strict=True)):
        right = rng.random() < (BLIND_YES_RIGHT if judged_right(view) else BLIND_YES_WRONG) if blind else judged_right(view)
        verdict = "Yes" if right else "No"
        turns.append(_turn("user", user))
        turns.append(
            _turn(
                "assistant",
                Span(text=rationale.analyze_prefill(position + 1), weight=0.0),
                Span(text=f"{write_analysis(problem, view)}\n</analyze>\n"),
                Span(text=rationale.VERIFY_PREFILL, weight=0.0),
                *_verify(view, right, 1.0),
                Span(text=f"{rationale.OUTPUT_PREFILL}{{{verdict}}}$\n</output>\n"),
            )
        )
        if not judged_right(view):
            break
    return Dialogue(turns=tuple(turns))


def _judgeable(problem: ToyProblem, steps: Sequence[str]) -> bool:
    return Judgement.UNPARSABLE not in {view.judgement for view in examine(problem, steps)}


def critique_solution(rng: random.Random, problem: ToyProblem) -> list[str]:
    """A solution to be critiqued: more slips than the policy's own, so that errors are common in the corpus."""
    while True:
        steps = write_solution(rng, problem, slip_rate=0.65, notice_rate=0.2, idle_rate=CRITIQUED_IDLE_CHECK_RATE, typical=False)
        if _judgeable(problem, steps):
            return steps


# --- streams ---------------------------------------------------------------------------------------------------------


def policy_stream(seed: int, split: Split = "train") -> Iterator[Dialogue]:
    rng = random.Random(f"policy:{seed}")
    while True:
        problem = draw_problem(rng, split)
        yield rewrite_dialogue(rng, problem) if rng.random() < 0.2 else solution_dialogue(rng, problem)


def rationale_stream(seed: int, split: Split = "train") -> Iterator[Dialogue]:
    rng = random.Random(f"rationale:{seed}")
    while True:
        problem = draw_problem(rng, split)
        yield rationale_dialogue(problem, critique_solution(rng, problem))


def base_stream(seed: int, split: Split = "train") -> Iterator[Dialogue]:
    rng = random.Random(f"base:{seed}")
    while True:
        problem = draw_problem(rng, split)
        yield genprm_dialogue(rng, problem, critique_solution(rng, problem), blind=True)
