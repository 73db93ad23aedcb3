import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shared_data import shared
from workflows.inputs.decontamination import FINGERPRINTS, HeldOut, benchmark_texts, ngrams
from workflows.inputs.problems import ProblemsConfig, read_benchmark, read_problems

LONG = "a train leaves the station at noon and travels north at sixty miles an hour for two hours"


def write(file: Path, lines: list[object]) -> str:
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(file)


def test_bad_rows_are_rejected_one_by_one_with_their_reason(tmp_path: Path) -> None:
    path = write(
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
        ],
    )
    problems, rejects, num_rows = read_problems(ProblemsConfig(path=path))
    assert [(p.text, p.answer, p.level) for p in problems] == [("P1", "1", "3"), ("P3", "7", None), ("P4", "42", None)]
    assert problems[0].id == "one"
    assert problems[1].id.startswith("problem-")
    assert [reject.reason for reject in rejects] == [
        "not JSON", "not an object", "no problem", "empty answer", "problem is not text", "problem too long",
        "problem is not valid Unicode", "duplicate",
    ]  # fmt: skip
    assert num_rows == len(problems) + len(rejects)


def test_benchmark_problems_are_removed_exactly_and_by_13_grams(tmp_path: Path) -> None:
    benchmark = write(tmp_path / "b.jsonl", [{"problem": "What is  TWO plus two?"}, {"question": LONG + " how far is it"}])
    path = write(
        tmp_path / "p.jsonl",
        [
            {"problem": "what is two plus two?", "answer": "4"},
            {"problem": "Suppose " + LONG + ", then stops.", "answer": "120"},
            {"problem": "What is two plus three?", "answer": "5"},
        ],
    )
    problems, rejects, _ = read_problems(ProblemsConfig(path=path, benchmarks=(benchmark,)))
    assert [problem.answer for problem in problems] == ["5"]
    assert [reject.reason for reject in rejects] == ["stands in a benchmark", "overlaps a benchmark"]


def test_short_texts_have_no_ngrams() -> None:
    assert ngrams("one two three") == set()
    assert len(ngrams(" ".join(str(n) for n in range(14)))) == 2


def test_a_missing_file_names_the_setting_and_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"problems\.path = 'nowhere\.jsonl': there is no such file"):
        read_problems(ProblemsConfig(path="nowhere.jsonl"))


def test_a_hub_data_set_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl", [{"problem": "P1", "answer": "1"}, {"problem": "P2", "answer": ""}])
    problems, rejects, num_rows = read_problems(ProblemsConfig(path=f"hf:{tmp_path / 'set'}:train"))
    assert ([problem.text for problem in problems], [reject.reason for reject in rejects], num_rows) == (["P1"], ["empty answer"], 2)
    with pytest.raises(ValueError, match=r"problems\.path = 'hf:/nowhere'"):
        read_problems(ProblemsConfig(path="hf:/nowhere"))


def test_benchmark_rows_are_checked(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "problem": "P", "steps": ["x", "y"], "label": 1},
        {"id": "a", "problem": "P", "steps": ["x"], "label": -1},
        {"problem": "P", "steps": [], "label": -1},
        {"problem": "P", "steps": ["x"], "label": 1},
        {"problem": "P", "steps": ["x", ""], "label": 0},
        {"problem": "P", "steps": ["x"], "label": True},
    ]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    good, rejects, _ = read_benchmark(str(tmp_path / "b.json"), None, "evaluate.benchmark")
    assert [row.id for row in good] == ["a", "a#2"]
    assert [reject.reason for reject in rejects] == ["no steps", "label is no step", "empty step", "label is not an integer"]


def test_reads_math_and_keeps_the_benchmarks_out() -> None:
    config = ProblemsConfig(
        path=str(shared("math/train.jsonl")),
        benchmarks=(str(shared("math500/test.jsonl")), str(shared("processbench/math.json"))),
    )
    problems, rejects, num_rows = read_problems(config)
    assert num_rows == 7500
    assert len(problems) + len(rejects) == 7500
    reasons = [reject.reason for reject in rejects]
    assert reasons.count("empty answer") == 2
    assert {reject.id for reject in rejects if reject.reason == "empty answer"} == {
        "train/number_theory/7115.json", "train/number_theory/7117.json",
    }  # fmt: skip
    assert len(problems) > 7000
    assert len({problem.id for problem in problems}) == len(problems)


def test_fingerprints_keep_out_what_their_file_keeps_out(tmp_path: Path) -> None:
    benchmark = write(tmp_path / "b.jsonl", [{"problem": "What is two plus two?"}, {"problem": LONG}])
    file = tmp_path / f"b{FINGERPRINTS}"
    HeldOut.of([benchmark]).write(file)
    assert b"train" not in file.read_bytes()
    held_out = HeldOut.of([str(file)])
    assert held_out.has("what is TWO  plus two?")
    assert not held_out.has("What is two plus three?")
    assert held_out.overlaps(f"Suppose {LONG}, then stops.")
    assert not held_out.overlaps("a train leaves the station at noon")
    pq.write_table(pa.table({"hash": [1]}), file)
    with pytest.raises(ValueError, match="not a fingerprint file"):
        HeldOut.of([str(file)])


def test_a_benchmark_without_problems_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no row has a problem"):
        HeldOut.of([write(tmp_path / "b.jsonl", [{"prompt": "P"}])])


def test_the_fingerprints_that_ship_are_those_of_the_benchmarks() -> None:
    for name, files in {"math500": ["math500/test.jsonl"], "processbench": ["processbench/gsm8k.json", "processbench/math.json"]}.items():
        held_out = HeldOut.of([f"workflows/held_out/{name}{FINGERPRINTS}"])
        for file in files:
            texts = benchmark_texts(str(shared(file)), "benchmarks")
            assert all(held_out.has(text) for text in texts)
            assert all(held_out.overlaps(text) for text in texts if ngrams(text))
