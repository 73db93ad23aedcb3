"""Step labels and first error of a solution: from the counts at its states (`genprm.progress`, `genprm.smoothing`), or as given."""

from __future__ import annotations

from typing import Any

from genprm import monte_carlo, progress
from genprm.progress import LabelRule
from genprm.records import EstimatedSolution, LabelledSolution, Outcome, Solution
from genprm.smoothing import Chain, Smoother


def label(solution: EstimatedSolution, rule: LabelRule, epsilon: float) -> LabelledSolution:
    """Labels by a threshold on the estimated values (Eq. 8, 10, 11)."""
    start = monte_carlo.value(solution.start_counts)
    values = monte_carlo.step_values(solution.step_counts_S)
    labels = progress.labels(start, values, rule, epsilon)
    return LabelledSolution(
        **_fields(solution),
        values_S=tuple(values),
        progress_S=tuple(progress.relative_progress(start, values)),
        labels_S=tuple(labels),
        first_error=progress.first_error(labels),
    )


def label_smoothed(solution: EstimatedSolution, smoother: Smoother) -> LabelledSolution:
    """The likeliest first error; steps before it are good, those after it as their own posterior says."""
    posterior = smoother.judge(Chain.of(solution))
    means: list[float] = posterior.values_T.tolist()
    start, values = means[0], [*means[1:], float(solution.outcome is Outcome.CORRECT)]
    best = posterior.best
    later = [int(bad < 0.5) for bad in posterior.bad_S[best + 1 :].tolist()]
    return LabelledSolution(
        **_fields(solution),
        values_S=tuple(values),
        progress_S=tuple(progress.relative_progress(start, values)),
        labels_S=(1,) * len(values) if best < 0 else (*(1,) * best, 0, *later),
        first_error=best,
        sureness=posterior.sureness,
    )


def label_as_given(solution: Solution) -> LabelledSolution | None:
    """The labels that came with the solution; None if there are none."""
    labels = solution.given_labels_S
    if labels is None:
        return None
    return LabelledSolution(**_fields(solution), values_S=None, progress_S=None, labels_S=labels, first_error=progress.first_error(labels))


def _fields(solution: Solution) -> dict[str, Any]:
    return {name: getattr(solution, name) for name, _ in Solution.FIELDS}
