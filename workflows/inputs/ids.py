"""Ids of problems and solutions: those given where there are any, else from the text, so that the same data have the same ids."""

from __future__ import annotations

import hashlib
from collections import Counter


def normalise(text: str) -> str:
    """The text that identifies a problem: case and the amount of space do not count."""
    return " ".join(text.split()).lower()


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()[:16]


def text_id(text: str) -> str:
    """The id of a problem that has none of its own."""
    return f"problem-{digest(normalise(text)).hex()[:12]}"


class UniqueIds:
    """Ids of rows: one that was there already gets the number of its row."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def of(self, name: str, number: int) -> str:
        if name in self._seen:
            name = f"{name}#{number}"
        while name in self._seen:
            name += "'"
        self._seen.add(name)
        return name


class SolutionIds:
    """Ids of solutions, ``<problem id>/s<n>``: n counts a problem's different solutions in the order of the rows, from 0.

    Rows belong to one problem where their problem texts are the same; its id is the one that its first row gives, or that of its text.
    """

    def __init__(self) -> None:
        self._problems: dict[bytes, str] = {}
        self._unique = UniqueIds()
        self._counts: Counter[str] = Counter()
        self._solutions: set[bytes] = set()

    def of(self, problem: str, steps: tuple[str, ...], given: str | None, number: int) -> tuple[str, str] | None:
        """(problem id, solution id) of the row ``number``; None where the same problem and steps were there before."""
        key = digest(normalise(problem))
        solution = digest("\0".join((key.hex(), *steps)))
        if solution in self._solutions:
            return None
        self._solutions.add(solution)
        if key not in self._problems:
            self._problems[key] = self._unique.of(given or text_id(problem), number)
        problem_id = self._problems[key]
        self._counts[problem_id] += 1
        return problem_id, f"{problem_id}/s{self._counts[problem_id] - 1}"
