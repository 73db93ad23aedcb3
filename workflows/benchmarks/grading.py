"""Grading of real solutions, against plain math-verify in this process; and of references in other spellings, and slightly changed."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actors.engine import Completion, Finish
from actors.grading.grader import Grader, GradingConfig
from genprm.errors import UserError
from genprm.grading import compare, extract_answer
from genprm.records import Outcome

BURST = 2048


def read_solutions(file: Path) -> list[tuple[str, str, bool]]:
    """(text, reference, recorded as right) of a JSONL file of problems with ``gt``, ``code`` and ``score``; ValueError names a bad line."""
    solutions = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            solutions += [(text, row["gt"], bool(score)) for text, score in zip(row["code"], row["score"], strict=True)]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"--solutions {file}: line {number}: {type(error).__name__}: {error}") from error
    return solutions


def read_golds(files: Sequence[Path]) -> list[str]:
    """The different answers of JSONL files of problems with ``answer`` (GSM8K's, too), in order; ValueError names a bad line."""
    golds: dict[str, None] = {}
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            try:
                answer = str(json.loads(line)["answer"]).rpartition("#### ")[2].strip()
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"--golds {file}: line {number}: {type(error).__name__}: {error}") from error
            if answer:
                golds[answer] = None
    return list(golds)


FRAMES = (
    "so $\\boxed{%s}$.", "\\boxed{ %s }", "\\[\n\\boxed{%s}\n\\]", "The answer is $%s$.", "Final Answer: **$%s$**", "**Answer:** \\(%s\\)",
    "The final answer is:\n\\[\n%s\n\\]", "\\boxed{%s.}", "\\boxed{$%s$}", "\\boxed{\\displaystyle %s}", "\\boxed{\n%s\n}", "\\fbox{%s}",
    "<answer>%s</answer>", "\\boxed{{%s}}", "\\boxed{%s}, as asked in \\boxed{}",
)  # fmt: skip
"""What an answer stands in."""


def _spaced(answer: str) -> str:
    return answer if re.search(r"\d,\\?!?\d{3}", answer) else re.sub(r"([=+,])", r" \1 ", answer)


def _sized(answer: str) -> str:
    is_plain = "\\left" not in answer and answer.count("(") == answer.count(")") and not re.search(r"[\[\]]", answer)
    return answer.replace("(", "\\left(").replace(")", "\\right)") if is_plain else answer


SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda answer: answer.replace("\\frac", "\\dfrac"),
    _spaced,
    lambda answer: answer.replace("\\\\", "\\\\\n").replace(", ", ",\n"),
    _sized,
    lambda answer: f"\\mathbf{{{answer}}}" if re.fullmatch(r"-?[\d.]+", answer) else answer,
)
"""Other ways to write it, in a box."""


def changed(answer: str, chance: random.Random) -> str | None:
    """With one digit or sign changed; None where it has none."""
    places = [found.start() for found in re.finditer(r"\d|(?<=[\w)}])[+-]", answer)]
    if not places:
        return None
    place = chance.choice(places)
    old = answer[place]
    new = chance.choice([digit for digit in "123456789" if digit != old]) if old.isdigit() else {"+": "-", "-": "+"}[old]
    return f"{answer[:place]}{new}{answer[place + 1 :]}"


async def golds_again(grader: Grader, golds: Sequence[str], seed: int) -> tuple[Counter[Outcome], Counter[Outcome]]:
    """Outcomes of every reference in all spellings against itself, and, if it is no plain integer, with one digit or sign changed."""
    chance = random.Random(seed)
    texts = [[frame % gold for frame in FRAMES] + [f"\\boxed{{{spell(gold)}}}" for spell in SPELLINGS] for gold in golds]
    other = [None if re.fullmatch(r"-?\d+", gold) else changed(gold, chance) for gold in golds]
    same: Counter[Outcome] = Counter()
    wrong: Counter[Outcome] = Counter()
    for gold, spelled, different in zip(golds, texts, other, strict=True):
        for grade, text in zip(await _graded(grader, spelled, gold), spelled, strict=True):
            same[grade] += 1
            if grade is not Outcome.CORRECT:
                print(f"not equal to itself: {text!r} for {gold!r}: {grade}")
        if different is not None:
            (grade,) = await _graded(grader, [f"so $\\boxed{{{different}}}$."], gold)
            wrong[grade] += 1
            if grade is not Outcome.INCORRECT:
                print(f"changed: {different!r} for {gold!r}: {grade}")
    return same, wrong


async def _graded(grader: Grader, texts: Sequence[str], reference: str) -> list[Outcome]:
    completions = [Completion(text=text, finish=Finish.STOP, num_tokens=0) for text in texts]
    return [grade.outcome for grade in await grader.grade_all(completions, reference)]


def golds_benchmark(config: GradingConfig, golds: Sequence[str], seed: int) -> dict[str, Any]:
    """Prints every reference that is not equal to itself, and every changed one that is not told apart."""
    grader = Grader(config.model_copy(update={"num_processes": 2}))
    try:
        same, wrong = asyncio.run(golds_again(grader, golds, seed))
    finally:
        grader.close()
    return {
        "golds": len(golds),
        "spelled": same.total(),
        "equal_to_itself": same[Outcome.CORRECT],
        "changed": wrong.total(),
        "changed_called_correct": wrong[Outcome.CORRECT],
        "changed_unparsable": wrong[Outcome.UNPARSABLE] + wrong[Outcome.TIMED_OUT],
    }


def plain(solutions: Sequence[tuple[str, str, bool]]) -> float:
    """Seconds of math-verify on every answer, one after another, without limits or memory."""
    compare("1", "1.0")
    began = time.perf_counter()
    for text, reference, _ in solutions:
        answer = extract_answer(text)
        if answer is not None:
            compare(answer, reference)
    return time.perf_counter() - began


async def ours(grader: Grader, solutions: Sequence[tuple[str, str, bool]]) -> list[Outcome]:
    """As a stage does it: the completions of one reference at a time, many references side by side."""
    by_reference: dict[str, list[Completion]] = {}
    for text, reference, _ in solutions:
        by_reference.setdefault(reference, []).append(Completion(text=text, finish=Finish.STOP, num_tokens=0))
    graded = await asyncio.gather(*(grader.grade_all(completions, reference) for reference, completions in by_reference.items()))
    outcome_of = {
        (reference, completion.text): grade.outcome
        for (reference, completions), grades in zip(by_reference.items(), graded, strict=True)
        for completion, grade in zip(completions, grades, strict=True)
    }
    return [outcome_of[reference, text] for text, reference, _ in solutions]


def grading_benchmark(config: GradingConfig, solutions: Sequence[tuple[str, str, bool]]) -> dict[str, Any]:
    """Prints every difference from the recorded correctness, and the speeds."""
    alone = plain(solutions)
    grader = Grader(config.model_copy(update={"num_processes": 2}))
    try:
        asyncio.run(ours(grader, [("\\boxed{1/2}", "0.5", True), ("\\boxed{1/3}", "0.3", True)]))  # processes start
        began = time.perf_counter()
        outcomes = asyncio.run(ours(grader, solutions))
        seconds = time.perf_counter() - began
    finally:
        grader.close()
    grader = Grader(config.model_copy(update={"num_processes": 2}))
    try:
        asyncio.run(ours(grader, [("\\boxed{1/2}", "0.5", True), ("\\boxed{1/3}", "0.3", True)]))
        burst = (list(solutions) * -(-BURST // len(solutions)))[:BURST]
        began = time.perf_counter()
        asyncio.run(ours(grader, burst))
        burst_seconds = time.perf_counter() - began
    finally:
        grader.close()
    agreed = 0
    for (text, reference, recorded), outcome in zip(solutions, outcomes, strict=True):
        if (outcome is Outcome.CORRECT) == recorded:
            agreed += 1
        else:
            print(f"differs: {extract_answer(text)!r} for {reference!r}: {outcome}, recorded as {'right' if recorded else 'wrong'}")
    print(f"{agreed} of {len(solutions)} as recorded; {BURST} answers in {burst_seconds:.2f} s")
    return {
        "benchmark": "grading",
        "answers_per_s": round(len(solutions) / seconds),
        "vs_math_verify": round(alone / seconds, 1),
        "agreed": agreed,
        "total": len(solutions),
        "seconds_for_2048": round(burst_seconds, 2),
    }
