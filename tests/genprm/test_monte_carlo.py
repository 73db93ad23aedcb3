import pytest

from genprm.monte_carlo import num_completions, step_values, value
from genprm.records import Counts, Outcome


def test_value_counts_failures_to_judge_as_trials() -> None:
    assert value(Counts(correct=3, incorrect=3, truncated=1, unparsable=1)) == 3 / 8
    assert value(Counts()) == 0.0


@pytest.mark.parametrize(("start", "k"), [(0.0, 128), (0.0999, 128), (0.1, 64), (0.5, 64), (0.8999, 64), (0.9, 32), (1.0, 32)])
def test_eq_9(start: float, k: int) -> None:
    assert num_completions(start) == k


def test_eq_9_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match=r"1\.5"):
        num_completions(1.5)


def test_values_stay_zero_after_a_zero() -> None:
    counts = [Counts(correct=1, incorrect=1), Counts(incorrect=4), Counts(), Counts(correct=1)]
    assert step_values(counts) == [0.5, 0.0, 0.0, 0.0]


def test_counts_add_up_by_outcome() -> None:
    counts = Counts.of_outcomes([Outcome.CORRECT, Outcome.TRUNCATED, Outcome.CORRECT])
    assert counts == Counts(correct=2, truncated=1)
    assert (counts + counts).trials == 6
