"""Tables, page and picture from plain results."""

from __future__ import annotations

from pathlib import Path

from actors.storage import Folder
from workflows.report import Panel, Table, agreement_tables, picture, score_table, search_tables, stage_table, text, write_report


def scores(votes: float, one: float) -> dict[str, float]:
    return {
        f"{kind}/{name}": value
        for kind, value in (("votes", votes), ("one_vote", one))
        for name in ("error_accuracy", "correct_accuracy", "f1")
    }


def test_stages_with_what_was_rejected_and_a_dash_for_what_was_not_measured() -> None:
    rows = [
        {
            "stage": "rollouts", "rows_in": 3, "rows_out": 2, "rejects": {"b": 1, "a": 2},
            "tokens": 1200, "seconds": 2.0, "tokens_per_s": 600.0, "gpu_seconds": 0.0,
        },
        {
            "stage": "labels/rpe", "rows_in": 2, "rows_out": 2, "rejects": {},
            "tokens": 0, "seconds": 0.5, "tokens_per_s": 0.0, "gpu_seconds": 0.0,
        },
    ]  # fmt: skip
    shown = stage_table(rows).text().splitlines()
    assert shown[3] == "rollouts    3   2    1,200   2.0  600       a 2, b 1"
    assert shown[4] == "labels/rpe  2   2    -       0.5  -         -"
    on_gpus = stage_table([{**rows[0], "gpu_seconds": 5400.0}]).text().splitlines()
    assert on_gpus[1] == "stage     in  out  tokens  s    tokens/s  GPU h  rejects"
    assert on_gpus[3] == "rollouts  3   2    1,200   2.0  600       1.50   a 2, b 1"


def test_every_verifier_and_benchmark_has_a_row_and_several_have_an_average() -> None:
    both = {"gsm8k": scores(60.0, 50.0), "math": scores(40.0, 30.0), "average": scores(50.0, 40.0)}
    alone = {"math": scores(40.0, 40.0), "average": scores(40.0, 40.0)}
    table = score_table({"genprm": both, "base": alone})
    assert [row[:3] for row in table.rows] == [
        ["genprm", "gsm8k", "one vote"], ["genprm", "gsm8k", "all votes"], ["genprm", "math", "one vote"], ["genprm", "math", "all votes"],
        ["genprm", "average", "one vote"], ["genprm", "average", "all votes"], ["base", "math", "one vote"],
    ]  # fmt: skip
    assert table.rows[5][-1] == "50.0"
    beside = score_table({"base": alone}, {("base", "votes"): "80.5"})
    assert [row[-1] for row in beside.rows] == ["-", "80.5"]


def test_search_shows_choices_and_rewrites() -> None:
    solved = {"pass_at_1": 40.0, "majority": 50.0, "weighted": 55.0, "best_of_n": 60.0, "pass_at_n": 70.0}
    values = {**solved, "critic_turn_0": 40.0, "critic_turn_1": 45.0}
    choices, critic = search_tables({"genprm": {"math500": values, "empty": {}}}, 8)
    assert choices.head[-1] == "pass@8"
    assert list(choices.rows) == [["genprm", "math500", "40.0", "50.0", "55.0", "60.0", "70.0"]]
    assert list(critic.rows) == [["genprm", "math500", "40.0 / 45.0"]]


def test_agreement_is_a_matrix_and_what_was_kept() -> None:
    found = {"names": ["none", "1"], "matrix": [[5, 1, 0], [2, 7, 1]], "levels": {"Level 5": [8, 6]}}
    shown = text(agreement_tables(found, "rpe"))
    assert "none              5     1  0\n1                 2     7  1" in shown
    assert "Level 5  8          6     75.0" in shown


def test_the_page_escapes_what_comes_from_data_and_has_its_picture_inside(tmp_path: Path) -> None:
    table = Table(title="<b>T</b>", head=("a",), rows=[["<i>x</i>"]])
    write_report(Folder(str(tmp_path)), "Run", [table], [Panel(title="P", values={"one": 50.0})])
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;T&lt;/b&gt;" in page
    assert "&lt;i&gt;x&lt;/i&gt;" in page
    assert "<i>x" not in page
    assert 'src="data:image/png;base64,' in page
    assert (tmp_path / "report.png").read_bytes() == picture([Panel(title="P", values={"one": 50.0})])
