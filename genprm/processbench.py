"""ProcessBench scores (section 4.1): how well a verifier finds the first wrong step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ProcessBenchScore:
    """In percent. ``error_accuracy`` over solutions with an error, ``correct_accuracy`` over those without; an empty
    class has accuracy 0. The counts are the denominators."""

    error_accuracy: float
    correct_accuracy: float
    num_erroneous: int
    num_correct: int

    @property
    def f1(self) -> float:
        return harmonic_mean(self.error_accuracy, self.correct_accuracy)


def harmonic_mean(error_accuracy: float, correct_accuracy: float) -> float:
    """ProcessBench F1 from its two accuracies, in their unit; 0 if both are 0."""
    total = error_accuracy + correct_accuracy
    return 2.0 * error_accuracy * correct_accuracy / total if total else 0.0


def score(predictions: Sequence[int | None], labels: Sequence[int]) -> ProcessBenchScore:
    """Compare predicted first errors with the labelled ones (0-based, -1 for none).

    A prediction of None (no readable verdict) counts as wrong. ValueError if the lengths differ or there are no rows.
    """
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions for {len(labels)} labels")
    if not labels:
        raise ValueError("no solutions to score")
    erroneous = [prediction == label for prediction, label in zip(predictions, labels, strict=True) if label != -1]
    correct = [prediction == label for prediction, label in zip(predictions, labels, strict=True) if label == -1]
    return ProcessBenchScore(
        error_accuracy=100.0 * sum(erroneous) / len(erroneous) if erroneous else 0.0,
        correct_accuracy=100.0 * sum(correct) / len(correct) if correct else 0.0,
        num_erroneous=len(erroneous),
        num_correct=len(correct),
    )
