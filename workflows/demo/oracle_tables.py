"""How close labels, judges and consensus come to the oracle, which knows the truth of every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genprm import monte_carlo, progress
from genprm.progress import LabelRule
from genprm.records import EstimatedSolution
from genprm.smoothing import Chain, Smoother, fit
from genprm.toy.oracle import first_error
from genprm.toy.world import read_problem
from workflows.report import Panel, Table, number

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
SMOOTHED = (0.5, 0.8)
PAPER_LABELS = {
    "hard": "73.2", "difference -0.1": "74.1", "difference -0.3": "74.1", "difference -0.5": "74.3",
    "RPE 0.1": "73.5", "RPE 0.5": "73.5", "RPE 0.8": "75.2", "RPE 1.0": "72.3",
}  # fmt: skip
"""ProcessBench F1 of models trained on each rule's labels, from Table 3 (another measure of the same thing)."""


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
    without an error. ``rows`` are of the estimates or labels stage. Completions and tokens are a solution's, on average."""
    solutions = [EstimatedSolution.of(row) for row in rows]
    truth = [true_first_error(solution.problem, solution.steps) for solution in solutions]
    table: dict[str, Any] = {"num_solutions": len(solutions), "num_erroneous": sum(index >= 0 for index in truth), "rules": {}}
    table["completions"] = sum(solution.num_completions for solution in solutions) / max(1, len(solutions))
    table["tokens"] = sum(solution.num_tokens for solution in solutions) / max(1, len(solutions))
    chains = [Chain.of(solution) for solution in solutions]
    prior = fit(chains)
    smoothers = {f"smoothed RPE {epsilon}": Smoother(prior, epsilon) for epsilon in SMOOTHED}
    found = {name: [_by_rule(solution, rule, epsilon) for solution in solutions] for name, rule, epsilon in RULES} | {
        name: [smoother.judge(chain).best for chain in chains] for name, smoother in smoothers.items()
    }
    for name, indices in found.items():
        hits = [index == true for index, true in zip(indices, truth, strict=True)]
        table["rules"][name] = {
            "exact": _percent(hits),
            "exact_erroneous": _percent([hit for hit, index in zip(hits, truth, strict=True) if index >= 0]),
            "exact_correct": _percent([hit for hit, index in zip(hits, truth, strict=True) if index < 0]),
        }
    return table


def _by_rule(solution: EstimatedSolution, rule: LabelRule, epsilon: float) -> int:
    values = monte_carlo.step_values(solution.step_counts_S)
    return progress.first_error(progress.labels(monte_carlo.value(solution.start_counts), values, rule, epsilon))


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


def tables(oracle: Mapping[str, Any]) -> list[Table]:
    """Label quality by rule, estimators side by side, and what consensus filtering does."""
    found = []
    first = next(iter(oracle["labels"].values()))
    found.append(
        Table(
            title=f"Labels: share of {first['num_solutions']} solutions ({first['num_erroneous']} erroneous) whose first error is the "
            "oracle's, %",
            head=("rule", "all", "erroneous", "correct", "paper's F1"),
            rows=[
                [name, *(number(row[key]) for key in ("exact", "exact_erroneous", "exact_correct")), PAPER_LABELS.get(name, "-")]
                for name, row in first["rules"].items()
            ],
        )
    )
    rules = ("RPE 0.5", "RPE 0.8", "smoothed RPE 0.5", "smoothed RPE 0.8")
    found.append(
        Table(
            title="Estimators: cost of a solution, and share whose first error is the oracle's, %",
            head=("estimator", "completions", "tokens", *rules),
            rows=[
                [name, number(table["completions"]), number(table["tokens"]), *(number(table["rules"][rule]["exact"]) for rule in rules)]
                for name, table in oracle["labels"].items()
            ],
        )
    )
    found.append(
        Table(
            title="Consensus filtering, %",
            head=("conversations", "solutions", "kept", "first error exact before", "after", "judge alone"),
            rows=[
                [
                    name,
                    str(row["num_labelled"]),
                    *(number(row[key]) for key in ("kept_share", "exact_before", "exact_after", "exact_judge")),
                ]
                for name, row in oracle["consensus"].items()
            ],
        )
    )
    return found


def panels(oracle: Mapping[str, Any]) -> list[Panel]:
    first = next(iter(oracle["labels"].values()))
    return [Panel(title="Labels: first error exact, %", values={name: row["exact"] or 0.0 for name, row in first["rules"].items()})]
