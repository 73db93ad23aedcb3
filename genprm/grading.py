"""Answer extraction and equivalence, with failures to judge kept apart from wrong answers.

``compare`` may take arbitrarily long for a hostile text: `actors.grading.grade` runs it in a process with a wall clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from genprm.records import Outcome

LONGEST_ANSWER = 2_000
"""Characters; a longer "answer" is no answer and is not worth a parser's time."""

_PHRASES = (
    re.compile(r"(?:final\s+)?answer\s*(?:is|:)\s*:?\s*(.+)", re.IGNORECASE),
    re.compile(r"^\s*####\s*(.+)", re.MULTILINE),
)
_BARE_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?!\w)", re.ASCII)
"""After a ``\\boxed`` without braces, as some write it."""
_BASED = re.compile(r"([0-9A-Za-z]+)_(?:\{(?=\d+\}))?(\d+)\}?", re.ASCII)
"""Digits with their base, of which math-verify reads the digits only."""
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Grade:
    """``answer`` is the extracted answer's text, None where there is none."""

    outcome: Outcome
    answer: str | None


def extract_boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}`` with balanced braces, or ``\\boxed 9``; None if there is none or it is empty."""
    start = text.rfind("\\boxed")
    while start >= 0:
        content = _braced(text, start + len("\\boxed"))
        if content is not None:
            return content.strip() or None
        start = text.rfind("\\boxed", 0, start)
    return None


def _braced(text: str, position: int) -> str | None:
    while position < len(text) and text[position] == " ":
        position += 1
    if position >= len(text) or text[position] != "{":
        bare = _BARE_NUMBER.match(text, position)
        return bare.group() if bare else None
    depth = 0
    for index in range(position, min(len(text), position + LONGEST_ANSWER + 2)):
        if text[index] == "{":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return text[position + 1 : index]
    return None


def extract_answer(text: str) -> str | None:
    """The answer that a solution states: its last box, else its last "answer is ..." or "#### ..."; None without one."""
    boxed = extract_boxed(text)
    if boxed is not None:
        return boxed
    tail = text[-10_000:]
    for phrase in _PHRASES:
        found = phrase.findall(tail)
        if found:
            candidate = found[-1].strip().rstrip(".").strip().strip("$").strip()
            if candidate and len(candidate) <= LONGEST_ANSWER:
                return candidate
    return None


def plain_equality(answer: str, reference: str) -> bool | None:
    """True or False where text alone decides (same text; two integers; digits in given bases), None where mathematics must."""
    left, right = answer.strip().strip("$").strip(), reference.strip().strip("$").strip()
    if left == right:
        return True
    if _INTEGER.fullmatch(left) and _INTEGER.fullmatch(right):
        return int(left) == int(right)
    based = _BASED.fullmatch(left), _BASED.fullmatch(right)
    if based[0] and based[1]:
        return based[0].groups() == based[1].groups()
    return None


def compare(answer: str, reference: str) -> Outcome:
    """Whether two answers are mathematically equal, by math-verify; may take arbitrarily long.

    UNPARSABLE where the answer (or the reference) is no mathematics.
    """
    from math_verify import parse, verify

    parsed_reference = parse(f"${reference}$", parsing_timeout=None)
    parsed_answer = parse(f"${answer}$", parsing_timeout=None)
    if not parsed_answer or not parsed_reference:
        return Outcome.UNPARSABLE
    return Outcome.CORRECT if verify(parsed_reference, parsed_answer, timeout_seconds=None) else Outcome.INCORRECT
