"""What the oracle of the arithmetic world says of labels and of consensus, as tables."""

from __future__ import annotations

from workflows.demo.oracle_tables import knows, tables


def test_estimators_and_rules_side_by_side() -> None:
    rule = {"exact": 61.0, "exact_erroneous": None, "exact_correct": 70.0}
    rules = dict.fromkeys(("hard", "RPE 0.5", "RPE 0.8", "smoothed RPE 0.5", "smoothed RPE 0.8"), rule)
    labels = {"num_solutions": 2, "num_erroneous": 0, "rules": rules, "completions": 54.5, "tokens": 1978.2}
    other = {**labels, "completions": 20.1, "tokens": 700.0}
    consensus = {"num_labelled": 2, "kept_share": 50.0, "exact_before": 60.0, "exact_after": 100.0, "exact_judge": None}
    by_rule, by_estimator, filtering = tables({"labels": {"paper": labels, "thrifty": other}, "consensus": {"rpe": consensus}})
    assert by_rule.rows[0] == ["hard", "61.0", "-", "70.0", "73.2"]
    assert by_estimator.rows[1] == ["thrifty", "20.1", "700.0", "61.0", "61.0", "61.0", "61.0"]
    assert list(filtering.rows) == [["rpe", "2", "50.0", "60.0", "100.0", "-"]]


def test_only_problems_of_the_arithmetic_world_are_known() -> None:
    assert not knows([{"problem": "What is the sum of the primes below 10?"}])
