import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared_data import shared
from tests.workflows.inputs.files import write_lines
from workflows.inputs.decontamination import FINGERPRINTS, HeldOut, benchmark_texts, common_words, grams, tokens_hash, word_codes
from workflows.inputs.problems import ProblemsConfig, read_problems

TRAIN = "a train leaves the station at noon and travels north at sixty miles an hour for two hours"


def test_benchmark_problems_are_removed_exactly_and_by_overlap(tmp_path: Path) -> None:
    benchmark = write_lines(tmp_path / "b.jsonl", [{"problem": "What is  TWO plus two?"}, {"question": TRAIN + " how far is it"}])
    path = write_lines(
        tmp_path / "p.jsonl",
        [
            {"problem": "what is two plus two?", "answer": "4"},
            {"problem": "Suppose " + TRAIN + ", then stops.", "answer": "120"},
            {"problem": "What is two plus three?", "answer": "5"},
        ],
    )
    problems, rejects, _ = read_problems(ProblemsConfig(path=path, benchmarks=(benchmark,)))
    assert [problem.answer for problem in problems] == ["5"]
    assert [reject.reason for reject in rejects] == ["stands in a benchmark", "overlaps a benchmark"]
    assert "words in the same order" in rejects[1].detail
    assert rejects[1].detail.endswith(f"{TRAIN!r}"), "the shared words"


def overlaps(text: str, benchmark: str) -> bool:
    return HeldOut([0], [word_codes(benchmark)]).overlap(text) is not None


def test_an_overlap_is_a_run_of_13_words_and_a_common_subsequence() -> None:
    run = " ".join(f"w{n}" for n in range(13))
    own = " ".join(f"a{n}" for n in range(8))
    assert overlaps(f"{run} {own}", run)  # 13 of 21 words
    assert not overlaps(f"{run} {own} a9", f"{run} {own.replace('a', 'b')} b9")  # 13 of 22
    assert overlaps(f"{run} {own} a9", run)  # all of the shorter one
    assert overlaps(f"{run} 5 a1 6 a2 7 a3 8 a4", f"{run} 1 a1 2 a2 3 a3 4 a4")  # other numbers
    gap = run.replace("w6", "x")
    assert not overlaps(f"{gap} {own}", f"{run} {own[:2]}")  # no run of 13


def test_short_texts_have_no_runs() -> None:
    assert list(grams(word_codes("one two three"))) == []
    assert len(list(grams(word_codes(" ".join(str(n) for n in range(14)))))) == 2


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_common_words_is_the_longest_common_subsequence(first: list[int], second: list[int]) -> None:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, left in enumerate(first):
        for j, right in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    assert common_words(first, second) == table[-1][-1]


def test_fingerprints_keep_out_what_their_file_keeps_out(tmp_path: Path) -> None:
    benchmark = write_lines(tmp_path / "b.jsonl", [{"problem": "What is two plus two?"}, {"problem": TRAIN}])
    file = tmp_path / f"b{FINGERPRINTS}"
    HeldOut.of([benchmark]).write(file)
    assert b"train" not in file.read_bytes()
    held_out = HeldOut.of([str(file)])
    assert held_out.has("what is TWO  plus two?")
    assert not held_out.has("What is two plus three?")
    assert held_out.overlap(f"Suppose {TRAIN}, then stops.") is not None
    assert held_out.overlap("a train leaves the station at noon") is None
    for table in (
        pa.table({"hash": [1]}),
        pa.table({"tokens": pa.array([None], pa.uint64()), "words": pa.array([[1]], pa.list_(pa.uint16()))}),
    ):
        pq.write_table(table, file)
        with pytest.raises(ValueError, match=r"problems\.benchmarks = .*not a fingerprint file"):
            HeldOut.of([str(file)])


RETYPESET: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace("\\frac", "\\dfrac"),
    lambda text: re.sub(r"\$([^$]+)\$", r"\\(\1\\)", text),
    lambda text: re.sub(r"\\(?:left|right)(?![a-z])", "", text),
    lambda text: re.sub(r"\[asy\].*?\[/asy\]", "", text, flags=re.DOTALL),
    lambda text: text.replace("\\pi", "π").replace("\\theta", "θ").replace("\\cdot", "·"),
)


def test_benchmark_problems_are_known_however_they_are_typeset() -> None:
    held_out = HeldOut.of([f"workflows/inputs/held_out/math500{FINGERPRINTS}"])
    texts = benchmark_texts(str(shared("math500/test.jsonl")), "benchmarks")
    for change in RETYPESET:
        changed = [change(text) for text in texts if change(text) != text]
        assert len(changed) > 15
        assert [text for text in changed if not held_out.has(text) and held_out.overlap(text) is None] == []


def test_short_problems_need_the_same_words_and_signs() -> None:
    texts = ["What is $3 + 4$?", "Compute the value of $\\sin 60^\\circ$.", "Compute $(2+3)^2$."]
    held_out = HeldOut(map(tokens_hash, texts), map(word_codes, texts))
    assert held_out.has("what is \\(3+4\\) ?")
    assert held_out.has("compute the value of \\(\\sin 60°\\)")
    for text in ("What is $3 - 4$?", "Compute the value of $\\cos 60^\\circ$.", "Compute $2+3^2$."):
        assert not held_out.has(text)
        assert held_out.overlap(text) is None


def test_a_benchmark_without_problems_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no row has a problem text"):
        HeldOut.of([write_lines(tmp_path / "b.jsonl", [{"other": "P"}])])


def test_benchmark_texts_are_found_under_the_usual_names(tmp_path: Path) -> None:
    rows = [{"prompt": [{"role": "user", "content": "P"}]}, {"question": {"problem": "Q"}}, {"text": "R"}, {"Question": "S"}, "{broken"]
    assert benchmark_texts(write_lines(tmp_path / "b.jsonl", rows), "benchmarks") == ["P", "Q", "R", "S"]


def test_the_fingerprints_that_ship_are_those_of_the_benchmarks() -> None:
    for name, files in {"math500": ["math500/test.jsonl"], "processbench": ["processbench/gsm8k.json", "processbench/math.json"]}.items():
        held_out = HeldOut.of([f"workflows/inputs/held_out/{name}{FINGERPRINTS}"])
        for file in files:
            texts = benchmark_texts(str(shared(file)), "benchmarks")
            assert all(held_out.has(text) for text in texts)
            assert all(held_out.overlap(text) for text in texts if len(word_codes(text)) >= 13)
