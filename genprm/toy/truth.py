"""How close labels, judges and consensus come to the oracle, which knows the truth of every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genprm import monte_carlo, progress
from genprm.progress import LabelRule
from genprm.records import EstimatedSolution
from genprm.toy.oracle import first_error
from genprm.toy.world import read_problem

RULES: Sequence[tuple[str, LabelRule, float]] = (
    ("hard", "hard", 0.0),
    ("difference -0.1", "difference", -0.1),
    ("difference -0.3", "difference", -0.3),
    ("difference -0.5", "difference", -0.5),
    ("RPE 0.1", "ratio", 0.1),
    ("RPE 0.5", "ratio", 0.5),
    ("RPE 0.8", "ratio", 0.8),
    ("RPE 1.0", "ratio", 1.0),
)


def knows(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every row's ``problem`` is of the arithmetic world, so that the oracle can judge it."""
    try:
        for row in rows:
            read_problem(row["problem"])
    except ValueError:
        return False
    return True


def true_first_error(problem: str, steps: Sequence[str]) -> int:
    return first_error(read_problem(problem), steps)


def _percent(hits: Sequence[bool]) -> float | None:
    return 100.0 * sum(hits) / len(hits) if hits else None


def label_quality(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of solutions (percent) whose first error is the oracle's, for each rule; also apart for solutions with and
    without an error. ``rows`` are of the estimates or labels stage."""
    solutions = [EstimatedSolution.of(row) for row in rows]
    truth = [true_first_error(solution.problem, solution.steps) for solution in solutions]
    table: dict[str, Any] = {"num_solutions": len(solutions), "num_erroneous": sum(index >= 0 for index in truth), "rules": {}}
    for name, rule, epsilon in RULES:
        hits = []
        for solution, index in zip(solutions, truth, strict=True):
            values = monte_carlo.step_values(solution.step_counts_S)
            labels = progress.labels(monte_carlo.value(solution.start_counts), values, rule, epsilon)
            hits.append(progress.first_error(labels) == index)
        table["rules"][name] = {
            "exact": _percent(hits),
            "exact_erroneous": _percent([hit for hit, index in zip(hits, truth, strict=True) if index >= 0]),
            "exact_correct": _percent([hit for hit, index in zip(hits, truth, strict=True) if index < 0]),
        }
    return table


def consensus_quality(
    labelled: Sequence[Mapping[str, Any]], critiques: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Kept share, and share of exact first errors before and after filtering, and of the judge alone (percent)."""
    truth = {row["id"]: true_first_error(row["problem"], row["steps"]) for row in labelled}
    kept_ids = {row["id"] for row in kept}
    judged = [row for row in critiques if row["judged_first_error"] is not None]
    return {
        "num_labelled": len(labelled),
        "num_kept": len(kept_ids),
        "kept_share": _percent([row["id"] in kept_ids for row in labelled]),
        "exact_before": _percent([row["first_error"] == truth[row["id"]] for row in labelled]),
        "exact_after": _percent([row["first_error"] == truth[row["id"]] for row in labelled if row["id"] in kept_ids]),
        "exact_judge": _percent([row["judged_first_error"] == truth[row["id"]] for row in judged]),
    }
