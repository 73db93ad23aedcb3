import json
from pathlib import Path
from typing import Any

import pytest

from tests.shared_data import shared
from tests.workflows.inputs.files import write_lines
from workflows.inputs.decontamination import FINGERPRINTS
from workflows.inputs.problems import ProblemsConfig, read_problems

HELD_OUT = tuple(f"workflows/inputs/held_out/{name}{FINGERPRINTS}" for name in ("math500", "processbench"))


def test_bad_rows_are_rejected_one_by_one_with_their_reason(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "p.jsonl",
        [
            {"problem": "P1", "answer": "1", "unique_id": "one", "level": 3},
            "{broken",
            "[1]",
            {"answer": "1"},
            {"problem": "P2", "answer": ""},
            {"problem": ["P"], "answer": "1"},
            {"problem": "x" * 1_000_000, "answer": "1"},
            {"problem": "\ud800", "answer": "1"},
            {"problem": " p1  ", "answer": "2"},
            {"problem": "P3", "answer": 7},
            {"problem": "P4", "answer": "because\n#### 42"},
            '{"problem": "P5", "answer": NaN}',
            '{"problem": NaN, "answer": 5}',
            '{"problem": "P6", "answer": Infinity}',
            {"problem": "P7", "answer": True},
        ],
    )
    problems, rejects, num_rows = read_problems(ProblemsConfig(path=path))
    assert [(p.text, p.answer, p.level) for p in problems] == [("P1", "1", "3"), ("P3", "7", None), ("P4", "42", None)]
    assert problems[0].id == "one"
    assert problems[1].id.startswith("problem-")
    assert [reject.reason for reject in rejects] == [
        "not JSON", "not an object", "no problem", "empty answer", "problem is not text", "problem too long",
        "problem is not valid Unicode", "duplicate", "no answer", "no problem", "no answer", "answer is not text",
    ]  # fmt: skip
    assert rejects[0].detail == f"{path}, line 2: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert num_rows == len(problems) + len(rejects)


@pytest.mark.parametrize(
    ("row", "text", "answer"),
    [
        ({"problem": "P", "answer": 0.00001}, "P", "0.00001"),
        ({"problem": "P", "answer": 1e16}, "P", "10000000000000000"),
        ({"question": "Q?", "answer": "6*3=<<6*3=18>>18\n#### 1,018"}, "Q?", "1,018"),
        ({"question": "Q?", "final_answer": ["$5$"]}, "Q?", "$5$"),
        ({"problem": "P", "solution": "so \\boxed{7}"}, "P", "7"),
        ({"problem": "P", "solution": "so \\boxed{8}", "answer": "7"}, "P", "7"),
        ({"problem": None, "question": "Q?", "answer": "1"}, "Q?", "1"),
        ({"problem": " ", "question": "Q?", "answer": "", "solution": "so \\boxed{7}"}, "Q?", "7"),
        (
            {"prompt": [{"role": "user", "content": "1+1?"}], "reward_model": {"ground_truth": "2", "style": "rule"}, "data_source": "d"},
            "1+1?",
            "2",
        ),
    ],
)
def test_the_layouts_of_public_files_need_no_setting(tmp_path: Path, row: dict[str, Any], text: str, answer: str) -> None:
    problems, _, _ = read_problems(ProblemsConfig(path=write_lines(tmp_path / "p.jsonl", [row])))
    assert [(problem.text, problem.answer) for problem in problems] == [(text, answer)]


def test_a_setting_is_exact_and_may_be_a_path(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "1+1?"}], "meta": {"key": "2"}, "answer": "other"}
    path = write_lines(tmp_path / "p.jsonl", [row])
    problems, _, _ = read_problems(ProblemsConfig(path=path, text_field="prompt[0].content", answer_field="meta.key"))
    assert [(problem.text, problem.answer) for problem in problems] == [("1+1?", "2")]
    with pytest.raises(ValueError, match="1 for 'no result'"):
        read_problems(ProblemsConfig(path=path, answer_field="result"))
    with pytest.raises(ValueError, match=r"'meta\[' is no name or path"):
        ProblemsConfig(path=path, answer_field="meta[")


def test_ids_are_unique_and_the_same_for_the_same_data(tmp_path: Path) -> None:
    rows = [
        {"problem": "P", "answer": "1", "unique_id": "a"},
        {"problem": "Q", "answer": "2", "unique_id": "a"},
        {"problem": "R", "answer": "2", "id": 7},
        {"problem": "S  s", "answer": "2"},
    ]
    problems, _, _ = read_problems(ProblemsConfig(path=write_lines(tmp_path / "p.jsonl", rows)))
    assert [problem.id for problem in problems] == ["a", "a#2", "7", "problem-fc257383af5d"]
    again, _, _ = read_problems(ProblemsConfig(path=write_lines(tmp_path / "q.jsonl", [{"problem": "s S", "answer": "2"}])))
    assert again[0].id == problems[3].id


def test_rejects_have_ids_of_their_own(tmp_path: Path) -> None:
    rows = [{"problem": "P", "answer": "1", "id": "a"}] * 4
    _, rejects, _ = read_problems(ProblemsConfig(path=write_lines(tmp_path / "p.jsonl", rows)))
    assert [reject.id for reject in rejects] == ["a", "a#3", "a#4"]


def test_the_limit_counts_good_rows(tmp_path: Path) -> None:
    rows = [{"problem": "P"}, {"problem": "P", "answer": "1"}, {"problem": "Q", "answer": "2"}, {"problem": "R", "answer": "3"}]
    problems, rejects, num_rows = read_problems(ProblemsConfig(path=write_lines(tmp_path / "p.jsonl", rows), limit=2))
    assert ([problem.text for problem in problems], len(rejects), num_rows) == (["P", "Q"], 1, 3)


def test_if_every_row_is_rejected_the_error_says_what_to_set(tmp_path: Path) -> None:
    rows = [{"data_source": "d", "task": "1+1?", "extra": {"truth": "2"}, "list": [{"a": 1}]}] * 3
    path = write_lines(tmp_path / "p.jsonl", [*rows, "{broken"])
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        read_problems(ProblemsConfig(path=path, answer_field="truth"))
    assert str(error.value) == (
        f"problems.path = {path!r}: all 4 rows were rejected: 3 for 'no problem', 1 for 'not JSON'. "
        "Looked for problems.text_field = problem or question or prompt or Problem or Question or query; problems.answer_field = truth. "
        "The rows have data_source, task, extra.truth, list[0].a. "
        "Set problems.text_field to the name of the field that has it, a nested one by its path"
    )
    with pytest.raises(ValueError, match=r"all 1 rows were rejected: 1 for 'not JSON'\. No row is an object"):
        read_problems(ProblemsConfig(path=write_lines(tmp_path / "p.jsonl", ["text"])))
    with pytest.raises(ValueError, match="there is no row in it"):
        read_problems(ProblemsConfig(path=write_lines(tmp_path / "p.jsonl", [])))
    with pytest.raises(ValueError, match=r"search\.problems\.path is not set"):
        read_problems(ProblemsConfig(), "search.problems.path")


def test_the_identity_is_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    rows = [{"problem": "P", "answer": "1"}]
    one = ProblemsConfig(path=write_lines(tmp_path / "p.jsonl", rows), benchmarks=(write_lines(tmp_path / "c.jsonl", rows),))
    other = ProblemsConfig(path=write_lines(tmp_path / "b" / "q.jsonl", rows), benchmarks=(write_lines(tmp_path / "b" / "d.jsonl", rows),))
    assert one.identity() == other.identity()
    write_lines(tmp_path / "b" / "d.jsonl", rows * 2)
    assert one.identity() != other.identity()
    assert ProblemsConfig().identity()["path"] is None


def test_a_hub_data_set_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    write_lines(tmp_path / "set" / "train.jsonl", [{"problem": "P1", "answer": "1"}, {"problem": "P2", "answer": ""}])
    problems, rejects, num_rows = read_problems(ProblemsConfig(path=f"hf:{tmp_path / 'set'}:train"))
    assert ([problem.text for problem in problems], [reject.reason for reject in rejects], num_rows) == (["P1"], ["empty answer"], 2)
    with pytest.raises(ValueError, match=r"problems\.path = 'hf:/nowhere'"):
        read_problems(ProblemsConfig(path="hf:/nowhere"))


def test_reads_math_and_keeps_the_benchmarks_out() -> None:
    problems, rejects, num_rows = read_problems(ProblemsConfig(path=str(shared("math/train.jsonl")), benchmarks=HELD_OUT))
    reasons = [reject.reason for reject in rejects]
    assert {reason: reasons.count(reason) for reason in set(reasons)} == {
        "no answer in solution": 2, "duplicate": 1, "stands in a benchmark": 6, "overlaps a benchmark": 152,
    }  # fmt: skip
    assert {reject.id for reject in rejects if reject.reason == "no answer in solution"} == {
        "train/number_theory/7115.json", "train/number_theory/7117.json",
    }  # fmt: skip
    assert (len(problems), num_rows) == (7339, 7500)
    assert len({problem.id for problem in problems}) == len(problems)


@pytest.mark.parametrize(
    ("name", "number", "answer"), [("gsm8k/test.jsonl", 1319, "18"), ("amc23/test.jsonl", 40, "27"), ("aime24/test.jsonl", 30, "204")]
)
def test_reads_the_public_benchmarks_without_settings(name: str, number: int, answer: str) -> None:
    problems, rejects, _ = read_problems(ProblemsConfig(path=str(shared(name))))
    assert (len(problems), rejects, problems[0].answer) == (number, [], answer)


def test_a_phrase_that_many_problems_have_is_no_overlap(tmp_path: Path) -> None:
    text = (
        "A fair coin is tossed ten times. The probability that no two heads come in a row is $\\frac{m}{n}$, where $m$ and $n$ are "
        "relatively prime positive integers. Find $m+n$."
    )
    path = write_lines(tmp_path / "p.jsonl", [json.dumps({"problem": text, "answer": "73"})])
    problems, _, _ = read_problems(ProblemsConfig(path=path, benchmarks=HELD_OUT))
    assert [problem.answer for problem in problems] == ["73"]
    with pytest.raises(ValueError, match="overlaps a benchmark"):  # where a shared run of words is to be enough
        read_problems(ProblemsConfig(path=path, benchmarks=HELD_OUT, overlap=0.0))
