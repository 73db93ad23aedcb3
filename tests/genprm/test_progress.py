import math
from fractions import Fraction

import pytest

from genprm.progress import first_error, labels, relative_progress


def test_relative_progress_by_hand() -> None:
    assert relative_progress(0.5, [0.5, 0.25, 0.25, 0.0, 0.0]) == [1.0, 0.5, 1.0, 0.0, 0.0]


def test_progress_from_a_hopeless_start() -> None:
    assert relative_progress(0.0, [0.5, 0.0]) == [math.inf, 0.0]


@pytest.mark.parametrize(
    ("rule", "epsilon", "expected"),
    [
        ("hard", 0.0, [1, 1, 1, 0]),
        ("ratio", 0.8, [1, 0, 1, 0]),
        ("ratio", 0.5, [1, 1, 1, 0]),
        ("ratio", 1.0, [1, 0, 1, 0]),
        ("difference", -0.1, [1, 0, 1, 0]),
        ("difference", -0.3, [1, 1, 1, 1]),
    ],
)
def test_rules_by_hand(rule: str, epsilon: float, expected: list[int]) -> None:
    assert labels(0.5, [0.5, 0.25, 0.25, 0.0], rule, epsilon) == expected  # type: ignore[arg-type]


def test_every_label_after_a_zero_is_zero() -> None:
    for rule, epsilon in (("hard", 0.0), ("ratio", 0.8), ("difference", -0.5)):
        assert labels(0.2, [0.0, 0.0, 0.0], rule, epsilon)[1:] == [0, 0]  # type: ignore[arg-type]


def test_the_threshold_itself_is_good() -> None:
    assert labels(0.5, [0.4], "ratio", 0.8) == [1]


@pytest.mark.parametrize("k", [12, 24, 32, 48])
def test_labels_are_those_of_exact_fractions(k: int) -> None:
    for before in range(1, k + 1):
        for after in range(k + 1):
            assert labels(before / k, [after / k], "ratio", 0.8) == [int(Fraction(after, before) >= Fraction(4, 5))]
            assert labels(before / k, [after / k], "difference", -0.1) == [int(Fraction(after - before, k) >= Fraction(-1, 10))]


def test_first_error() -> None:
    assert first_error([1, 1, 0, 1, 0]) == 2
    assert first_error([1, 1]) == -1
    assert first_error([]) == -1
