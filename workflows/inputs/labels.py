"""Step labels as sources write them, to one a step: 1 good, 0 bad."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from workflows.inputs.fields import integer_of, is_missing

_NONE = re.compile(r"\s*(?:n/?a|none|no error)\s*", re.IGNORECASE)
_GOOD = {"+", "1", "1.0", "true", "good", "correct", "yes"}
_BAD = {"-", "0", "0.0", "false", "bad", "incorrect", "wrong", "no"}

Labels = list[int | None]
"""One a step; None where the source says nothing."""


def of_index(value: Any, name: str, num_steps: int, base: int) -> Labels:
    """From the index of the first bad step, which counts from ``base``; -1 or N/A (of base 1 also 0) for none. ValueError for no step."""
    index = -1 if isinstance(value, str) and _NONE.fullmatch(value) else integer_of(value, name)
    if index == -1 or (base == 1 and index == 0):
        return [1] * num_steps
    if not base <= index < num_steps + base:
        raise ValueError(f"{name} is no step")
    return [1] * (index - base) + [0] + [None] * (num_steps - 1 - (index - base))


def of_values(values: Sequence[Any], name: str) -> Labels:
    """From one value a step: 1 and 0, true and false, + and -, or such words."""
    return [None if is_missing(value) else _good_or_bad(value, name) for value in values]


def _good_or_bad(value: Any, name: str) -> int:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _GOOD or word in _BAD:
            return int(word in _GOOD)
    elif value in (0, 1):
        return int(value)
    raise ValueError(f"{name} are not 1 and 0, + and -, or true and false")


def of_ratings(values: Sequence[Any], name: str, neutral: str) -> Labels:
    """From one rating a step, as PRM800K has them: 1 good, -1 bad, 0 neutral, which is as ``neutral`` says."""
    labels: Labels = []
    for value in values:
        if is_missing(value):
            labels.append(None)
            continue
        rating = integer_of(value, name)
        if rating not in (-1, 0, 1):
            raise ValueError(f"{name} are not 1, 0 and -1")
        labels.append(int(rating == 1 or (rating == 0 and neutral == "good")))
    return labels


def of_errors(values: Sequence[Any], name: str, num_steps: int) -> Labels:
    """From a list of the bad steps, which count from 1."""
    bad = {integer_of(value, name) for value in values}
    if not bad <= set(range(1, num_steps + 1)):
        raise ValueError(f"{name} has what is no step")
    return [int(number not in bad) for number in range(1, num_steps + 1)]


def complete(labels: Sequence[int | None], num_steps: int) -> tuple[int, ...]:
    """One label a step: 0 after the first bad step where the source says nothing. ValueError where one is missing before it."""
    if len(labels) > num_steps:
        raise ValueError("more labels than steps")
    found: list[int] = []
    for label in (*labels, *[None] * (num_steps - len(labels))):
        if label is None and 0 not in found:
            raise ValueError("step without a label")
        found.append(label or 0)
    return tuple(found)
