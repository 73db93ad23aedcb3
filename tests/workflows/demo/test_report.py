"""Tables and page from results as they stand in results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workflows.demo.report import result_tables, results_text, write_report
from workflows.stage.folder import Folder


def results() -> dict[str, Any]:
    scores = {f"{kind}/{name}": 50.0 for kind in ("votes", "one_vote") for name in ("error_accuracy", "correct_accuracy", "f1")}
    stage = {
        "stage": "rollouts", "rows_in": 3, "rows_out": 2, "rejects": {"<b>never</b>": 1},
        "tokens": 1200, "seconds": 2.0, "tokens_per_s": 600.0,
    }  # fmt: skip
    rule = {"exact": 61.0, "exact_erroneous": None, "exact_correct": 70.0}
    other = {name: {**rule, "exact": 88.0} for name in ("RPE 0.5", "smoothed RPE 0.5", "smoothed RPE 0.8")}
    return {
        "stages": [stage],
        "config": {"estimates": {"type": "paper"}, "demo": {"estimates": {"type": "thrifty"}}},
        "labels": {"num_solutions": 2, "num_erroneous": 0, "rules": {"RPE 0.8": rule, **other}, "completions": 54.5, "tokens": 1978.2},
        "other_labels": {"num_solutions": 2, "num_erroneous": 0, "rules": {"RPE 0.8": rule, **other}, "completions": 20.1, "tokens": 700.0},
        "consensus": {"num_labelled": 2, "kept_share": 50.0, "exact_before": 60.0, "exact_after": 100.0, "exact_judge": None},
        "agreement": {"names": ["none", "1"], "matrix": [[5, 1, 0], [2, 7, 1]], "levels": {"Level 1": [8, 6], "Level 5": [8, 6]}},
        "verifier": dict.fromkeys(("evaluate_base", "evaluate", "evaluate_not_run"), scores),
        "search": {
            "pass_at_1": 40.0, "majority": 50.0, "best_of_n": 60.0, "pass_at_n": 70.0, "critic_turn_0": 40.0, "critic_turn_1": 45.0,
        },
        "num_votes": 8,
        "num_candidates": 4,
        "seconds": 12.3,
    }  # fmt: skip


def test_tables_show_what_was_measured_and_a_dash_for_what_was_not() -> None:
    text = results_text(results())
    assert "rollouts  3   2    <b>never</b> 1  1,200   2.0  600" in text
    assert "RPE 0.8           61.0  -          70.0     75.2" in text
    assert "thrifty    20.1         700.0   88.0     61.0     88.0              88.0" in text
    assert "trained, majority of 8, code run      50.0        50.0          50.0  80.5" in text
    assert "pass@4" in text
    assert "none      5            1         0\n1         2            7         1" in text
    assert "Level 5  8          6     75.0" in text
    assert "all stages took 12 s" in text


def test_without_the_oracle_its_tables_are_left_out(tmp_path: Path) -> None:
    blind = results() | {"labels": None, "other_labels": None, "consensus": None}
    titles = [title for title, _, _ in result_tables(blind)]
    assert len(titles) == len(result_tables(results())) - 3
    assert not any("oracle" in title or "Consensus" in title for title in titles)
    write_report(Folder(str(tmp_path)), blind)
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_the_page_escapes_what_comes_from_data(tmp_path: Path) -> None:
    write_report(Folder(str(tmp_path)), results())
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;never&lt;/b&gt;" in page
    assert "<b>never" not in page
