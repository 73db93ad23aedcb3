"""The arithmetic world: word problems of 2 to 4 operations on numbers below 100, made without end.

A problem is a start value and a list of operations. Its split is decided by a hash of exactly that structure, so the
train, synthesis and held-out parts share no problem, whatever its phrasing.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "synthesis", "heldout"]
Operator = Literal["+", "-", "*"]

LARGEST_VALUE = 99
_NAMES = [("Mia", "She"), ("Tom", "He"), ("Ana", "She"), ("Ben", "He"), ("Eva", "She"), ("Max", "He")]
_THINGS = ["apples", "coins", "books", "shells", "cards", "pens"]
_OPENINGS = ["{name} has {n} {things}.", "At first {name} has {n} {things}.", "There are {n} {things} in a box of {name}."]
_CLAUSES: dict[Operator, list[str]] = {
    "+": ["{he} buys {n} more.", "{he} finds {n}.", "A friend brings {n}."],
    "-": ["{he} loses {n}.", "{he} gives away {n}.", "A friend takes {n}."],
    "*": ["Then there are {n} times as many.", "The number grows {n} times."],
}
_QUESTIONS = ["How many {things} are there in the end?", "How many {things} does {name} have now?"]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One change of the running value, e.g. ``Operation(operator="-", operand=3)``."""

    operator: Operator
    operand: int

    def apply(self, value: int) -> int:
        if self.operator == "+":
            return value + self.operand
        if self.operator == "-":
            return value - self.operand
        return value * self.operand

    def __str__(self) -> str:
        return f"{self.operator} {self.operand}"


@dataclass(frozen=True, kw_only=True)
class ToyProblem:
    """A problem with its structure: ``text`` is what models see, the rest is what the oracle knows."""

    text: str
    start: int
    operations: tuple[Operation, ...]
    things: str

    @property
    def values(self) -> list[int]:
        """The running value before and after every operation: ``len(operations) + 1`` integers."""
        values = [self.start]
        for operation in self.operations:
            values.append(operation.apply(values[-1]))
        return values

    @property
    def answer(self) -> int:
        return self.values[-1]


def split_of(start: int, operations: tuple[Operation, ...]) -> Split:
    """The one split a structure belongs to: 80% train, 10% synthesis, 10% held-out."""
    key = f"{start}|" + "|".join(str(operation) for operation in operations)
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 10
    return "train" if bucket < 8 else ("synthesis" if bucket == 8 else "heldout")


def draw_operation(rng: random.Random, value: int) -> Operation:
    """A random operation that keeps the value within 1..99."""
    while True:
        if rng.random() < 0.2:
            operation = Operation(operator="*", operand=rng.choice([2, 3]))
        else:
            operation = Operation(operator=rng.choice(["+", "-"]), operand=rng.randint(1, 9))
        if 1 <= operation.apply(value) <= LARGEST_VALUE:
            return operation


def draw_problem(rng: random.Random, split: Split) -> ToyProblem:
    """A random problem of ``split``, by rejection of structures that belong to another split."""
    while True:
        start = rng.randint(2, 40)
        operations: list[Operation] = []
        value = start
        for _ in range(rng.randint(2, 4)):
            operations.append(draw_operation(rng, value))
            value = operations[-1].apply(value)
        if split_of(start, tuple(operations)) == split:
            return phrase(rng, start, tuple(operations))


def phrase(rng: random.Random, start: int, operations: tuple[Operation, ...]) -> ToyProblem:
    """Put a structure into words."""
    name, he = rng.choice(_NAMES)
    things = rng.choice(_THINGS)
    sentences = [rng.choice(_OPENINGS).format(name=name, n=start, things=things)]
    for operation in operations:
        sentences.append(rng.choice(_CLAUSES[operation.operator]).format(he=he, n=operation.operand))
    sentences.append(rng.choice(_QUESTIONS).format(name=name, things=things))
    return ToyProblem(text=" ".join(sentences), start=start, operations=operations, things=things)


def read_problem(text: str) -> ToyProblem:
    """Recover a problem's structure from its text, so that the oracle needs nothing else.

    Raises ValueError for text that is not of this world.
    """
    sentences = [sentence.strip() for sentence in text.replace("?", ".").split(".") if sentence.strip()]
    if len(sentences) < 3:
        raise ValueError(f"not a problem of the arithmetic world: {text[:80]!r}")
    start: int | None = None
    things = ""
    for candidate in _THINGS:
        if candidate in sentences[0]:
            things = candidate
    for word in sentences[0].split():
        if word.isascii() and word.isdigit():
            start = int(word)
    operations = [_read_clause(sentence, text) for sentence in sentences[1:-1]]
    if start is None or not things:
        raise ValueError(f"no start value or no things in the first sentence of {text[:80]!r}")
    return ToyProblem(text=text, start=start, operations=tuple(operations), things=things)


def _read_clause(sentence: str, text: str) -> Operation:
    for operator, clauses in _CLAUSES.items():
        for clause in clauses:
            before, _, after = clause.format(he="", n="\0").strip().rstrip(".").partition("\0")
            head, tail = before.strip(), after.strip()
            words = sentence.split()
            numbers = [word for word in words if word.isascii() and word.isdigit()]
            if len(numbers) != 1:
                break
            left, _, right = sentence.partition(numbers[0])
            if left.strip().endswith(head) and right.strip() == tail:
                return Operation(operator=operator, operand=int(numbers[0]))
    raise ValueError(f"the sentence {sentence!r} of {text[:80]!r} names no operation of the arithmetic world")
