"""Grading of real solutions, against plain math-verify in this process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
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
