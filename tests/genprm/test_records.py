import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genprm.records import (
    BenchmarkSolution,
    Counts,
    Critique,
    CritiqueOutcome,
    EstimatedSolution,
    GivenSolution,
    JudgedSolution,
    LearnedPrior,
    Outcome,
    Record,
    Segment,
    SegmentKind,
    Solution,
    Vote,
)

SOLUTION = {
    "id": "p/s0", "problem_id": "p", "problem": "P", "answer": "3", "level": None, "steps": ("a", "b"), "final_answer": "3",
    "outcome": Outcome.CORRECT, "problem_counts": Counts(correct=1, incorrect=2),
}  # fmt: skip

SAID = Segment(kind=SegmentKind.TEXT, text="So.", num_tokens=2)

EXAMPLES: list[Record] = [
    Solution(**SOLUTION),  # type: ignore[arg-type]
    GivenSolution(**SOLUTION, num_empty_steps=1, num_merged_steps=2),  # type: ignore[arg-type]
    EstimatedSolution(
        **SOLUTION,  # type: ignore[arg-type]
        start_counts=Counts(correct=1, truncated=1),
        step_counts_S=(Counts(correct=2), Counts(timed_out=1)),
        num_completions=4,
        num_tokens=100,
        tokens_T=(60, 40),
    ),
    LearnedPrior(initial=[[0.5, 0.5], [1.0, 0.0]], weights=[[[1.0]], [[1.0]]], num_solutions=7),
    Critique(
        id="p/s0",
        problem_id="p",
        problem="P",
        level="3",
        steps=("a",),
        segments=(SAID, Segment(kind=SegmentKind.OUTPUT, text="7")),
        outcome=CritiqueOutcome.READ,
        index_votes_V=(None, -1),
        judged_first_error=-1,
        num_code_blocks=1,
        num_tokens=2,
    ),
    JudgedSolution(
        id="x",
        label=-1,
        votes_S=((Vote(reward=None, verdict="unreadable", segments=()), Vote(reward=0.5, verdict="yes", segments=(SAID,))),),
        rewards_S=(0.5,),
        prediction=-1,
        first_vote_prediction=None,
        num_unreadable=1,
        num_code_blocks=0,
        num_tokens=3,
    ),
]


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_survives_parquet(record: Record) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([record.row()], schema=record.schema()), buffer)
    table = pq.read_table(pa.BufferReader(buffer.getvalue()))
    assert table.schema.remove_metadata() == record.schema()
    assert type(record).of(table.to_pylist()[0]) == record


def test_columns_are_pinned() -> None:
    assert Solution.schema().names == [
        "id", "problem_id", "problem", "answer", "level", "steps", "final_answer", "outcome", "problem_counts", "given_labels_S",
    ]  # fmt: skip
    assert EstimatedSolution.schema().names[-5:] == ["start_counts", "step_counts_S", "num_completions", "num_tokens", "tokens_T"]


def test_parallel_lists_are_checked() -> None:
    with pytest.raises(ValueError, match="1 step counts for 2 steps"):
        EstimatedSolution(
            **SOLUTION,  # type: ignore[arg-type]
            start_counts=Counts(),
            step_counts_S=(Counts(),),
            num_completions=0,
            num_tokens=0,
            tokens_T=(0,),
        )
    with pytest.raises(ValueError, match="label 2"):
        BenchmarkSolution(id="x", problem="P", steps=("a", "b"), label=2)
