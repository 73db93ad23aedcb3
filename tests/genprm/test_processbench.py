import csv

import pytest

from genprm.processbench import harmonic_mean, score
from tests.shared_data import shared


def test_scores_by_hand() -> None:
    result = score([0, 2, -1, 3, None], [0, 1, -1, -1, -1])
    assert result.error_accuracy == 50.0
    assert result.correct_accuracy == pytest.approx(100 / 3)
    assert result.f1 == pytest.approx(40.0)
    assert (result.num_erroneous, result.num_correct) == (2, 3)


def test_nothing_right_scores_zero() -> None:
    assert score([None, 0], [0, -1]).f1 == 0.0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 predictions for 2 labels"):
        score([0], [0, 1])


def test_reproduces_the_papers_f1_but_for_two_inconsistent_cells() -> None:
    off = []
    with shared("paper/processbench_full.csv").open() as stream:
        for row in csv.DictReader(stream):
            for split in ("gsm8k", "math", "olympiadbench", "omnimath"):
                if not (row[f"{split}_error_acc"] and row[f"{split}_f1"]):
                    continue
                error, correct = float(row[f"{split}_error_acc"]), float(row[f"{split}_correct_acc"])
                low, high = harmonic_mean(error - 0.05, correct - 0.05), harmonic_mean(error + 0.05, correct + 0.05)
                if not low - 0.051 <= float(row[f"{split}_f1"]) <= high + 0.051:
                    off.append((row["model"], split))
    assert sorted(off) == [("RLHFlow-PRM-Deepseek-8B", "omnimath"), ("Skywork-PRM-7B", "math")]
