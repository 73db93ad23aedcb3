import json
import random
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.toy import corpora, oracle
from genprm.toy.oracle import Judgement
from genprm.toy.world import Operation, Split, ToyProblem, draw_problem, read_problem, split_of

DATA = Path("genprm/toy/data")
PROBLEM = ToyProblem(
    text="Mia has 7 apples. She buys 5 more. She loses 3. How many apples does Mia have now?",
    start=7,
    operations=(Operation(operator="+", operand=5), Operation(operator="-", operand=3)),
    things="apples",
)


def test_a_problem_is_read_back_from_its_text() -> None:
    assert read_problem(PROBLEM.text) == PROBLEM
    rng = random.Random(0)
    for _ in range(2000):
        problem = draw_problem(rng, "train")
        assert read_problem(problem.text) == problem


def test_text_of_another_world_is_refused() -> None:
    with pytest.raises(ValueError, match="arithmetic world"):
        read_problem("What is the area of a circle?")


def test_splits_never_overlap() -> None:
    splits: list[Split] = ["train", "synthesis", "heldout"]
    rng = random.Random(1)
    structures = {split: {(p.start, p.operations) for p in (draw_problem(rng, split) for _ in range(1500))} for split in splits}
    for split in splits:
        assert all(split_of(*structure) == split for structure in structures[split])
    assert not structures["train"] & structures["heldout"]
    assert not structures["train"] & structures["synthesis"]


@pytest.mark.parametrize(
    ("steps", "judgements"),
    [
        (["7 + 5 = 12.", "12 - 3 = 9.", r"The answer is $\boxed{9}$."], ["right", "right", "right"]),
        (["7 + 5 = 13.", "13 - 3 = 10.", r"The answer is $\boxed{10}$."], ["calculation_slip", "right", "right"]),
        (["7 + 6 = 13.", r"The answer is $\boxed{13}$."], ["reading_slip", "reading_slip"]),
        (["7 - 5 = 2.", "So it goes."], ["reading_slip", "unparsable"]),
        (["7 + 5 = 13.", "Check: 7 + 5 = 12.", "12 - 3 = 9."], ["calculation_slip", "right", "right"]),
        (["7 + 5 = 12.", "12 - 3 = 9.", r"The answer is $\boxed{8}$."], ["right", "right", "reading_slip"]),
    ],
)
def test_the_oracle_judges_each_step(steps: list[str], judgements: list[str]) -> None:
    assert [judgement.value for judgement in oracle.judge_steps(PROBLEM, steps)] == judgements


def test_first_error_and_answer() -> None:
    assert oracle.first_error(PROBLEM, ["7 + 5 = 12.", "12 - 3 = 8."]) == 1
    assert oracle.first_error(PROBLEM, ["7 + 5 = 12."]) == -1
    assert oracle.answer_is_right(PROBLEM, [r"The answer is $\boxed{9}$."])
    assert not oracle.answer_is_right(PROBLEM, [])


@given(st.lists(st.text() | st.from_regex(r"\d{1,3} [+*-] \d = \d{1,3}\.")))
def test_the_oracle_takes_any_text(steps: list[str]) -> None:
    assert all(judgement in Judgement for judgement in oracle.judge_steps(PROBLEM, steps))


def test_a_solution_without_slips_is_right_and_one_with_is_mostly_not() -> None:
    rng = random.Random(2)
    for _ in range(300):
        problem = draw_problem(rng, "train")
        steps = corpora.write_solution(rng, problem, slip_rate=0.0)
        assert oracle.first_error(problem, steps) == -1
        assert oracle.answer_is_right(problem, steps)
    slipped = [draw_problem(rng, "train") for _ in range(300)]
    wrong = sum(oracle.first_error(p, corpora.write_solution(rng, p, slip_rate=1.0)) >= 0 for p in slipped)
    assert wrong > 200


def test_critiques_end_at_the_paragraph_that_code_refutes() -> None:
    steps = ["7 + 5 = 13.", "13 - 3 = 10.", r"The answer is $\boxed{10}$."]
    dialogue = corpora.rationale_dialogue(PROBLEM, steps)
    text = "".join(span.text for span in dialogue.turns[1][1])
    assert "print(7 + 5 == 13)" in text
    assert text.count("### Paragraph") == 1
    assert text.endswith("$\\boxed{1}$.")


def test_streams_repeat_with_their_seed() -> None:
    for stream in (corpora.policy_stream, corpora.rationale_stream, corpora.base_stream):
        assert list(islice(stream(3), 5)) == list(islice(stream(3), 5))
        assert list(islice(stream(3), 5)) != list(islice(stream(4), 5))


def test_the_laptops_files_are_the_first_rows_of_the_large_ones() -> None:
    for name, number in {"synthesis.jsonl": 82, "heldout.jsonl": 24}.items():
        small, large = ((DATA / folder / name).read_text().splitlines() for folder in ("laptop", "."))
        assert small == large[:number]
    small, large = (json.loads((DATA / folder / "processbench.json").read_text()) for folder in ("laptop", "."))
    assert small == large[:40]
    assert sum(row["label"] >= 0 for row in small) == 20
