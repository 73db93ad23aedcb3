"""Each rule on a critique that breaks it, and on ones that do not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from genprm.records import Critique, CritiqueOutcome, Segment, SegmentKind
from genprm.screening import Flaw, find_flaw
from tests.shared_data import shared

STEPS = ("Tom has 7 apples and buys 5, so 7 + 5 = 12.", "He loses 2, so 12 - 2 = 11.", r"The answer is $\boxed{11}$.")


def paragraph(number: int, analysis: str, end: str = "So it is.", output: str = "True") -> list[Segment]:
    return [
        Segment(kind=SegmentKind.TEXT, text=f"### Paragraph {number}\n<analyze>\n{analysis}\n</analyze>\n<verify>\n```python\n"),
        Segment(kind=SegmentKind.CODE, text="print(7 + 5 == 12)\n"),
        Segment(kind=SegmentKind.TEXT, text="```\n"),
        Segment(kind=SegmentKind.OUTPUT, text=f"[Code Output]\n\n```\n{output}\n```\n"),
        Segment(kind=SegmentKind.TEXT, text=f"{end}\n</verify>\n"),
    ]  # fmt: skip


def critique(*paragraphs: list[Segment]) -> Critique:
    return Critique(
        id="p/s0", problem_id="p", problem="Tom has 7 apples. He buys 5 more. He loses 2. How many now?", level=None, steps=STEPS,
        segments=tuple(segment for part in paragraphs for segment in part),
        outcome=CritiqueOutcome.READ, index_votes_V=(1,), judged_first_error=1, num_code_blocks=2, num_tokens=9,
    )  # fmt: skip


GOOD = paragraph(1, "The paragraph adds what was bought. The sum is right.", "The paragraph is correct.")
WRONG = paragraph(2, "12 - 2 is 10, not 11.", "Paragraph 2 is wrong.", "False")


def test_a_good_critique_has_no_flaw() -> None:
    assert find_flaw(critique(GOOD, WRONG), 1) is None


@pytest.mark.parametrize(
    ("paragraphs", "flaw"),
    [
        ([WRONG, GOOD], Flaw.OUT_OF_ORDER),
        ([GOOD, GOOD, WRONG], Flaw.OUT_OF_ORDER),
        ([GOOD, paragraph(3, "It boxes 11."), WRONG], Flaw.OUT_OF_ORDER),
        ([GOOD, paragraph(2, r"All in all 7 + 5 - 2 = 10, so the answer is $\boxed{10}$.", output="False")], Flaw.SOLVED_AGAIN),
        ([paragraph(1, "Now: Tom has 7 apples. He buys 5 more. He loses 2. How many now? " + " ".join(STEPS[:2])), WRONG], Flaw.COPIED),
        ([GOOD, paragraph(2, "12 - 2 is 10.", "Paragraph 2 is wrong.", "")], Flaw.SILENT_CODE),
        ([GOOD, paragraph(2, "12 - 2 is 11.", "The paragraph is therefore correct.")], Flaw.CONTRADICTION),
        ([paragraph(1, "7 + 5 is 13.", "This step contains an error."), WRONG], Flaw.CONTRADICTION),
        ([GOOD, paragraph(2, "Wait, maybe the loss comes first, but that changes nothing at all. " * 8, output="False")], Flaw.LOOP),
    ],
)
def test_each_rule_notices_its_flaw(paragraphs: list[list[Segment]], flaw: Flaw) -> None:
    broken = critique(*paragraphs)
    assert find_flaw(broken, 1) is flaw
    assert find_flaw(broken, 1, tolerated=[flaw]) is None


def test_a_box_may_be_quoted_from_a_paragraph_that_has_one() -> None:
    last = paragraph(3, r"It boxes 11, and $\boxed{11}$ follows from the step before.")
    assert find_flaw(critique(GOOD, paragraph(2, "12 - 2 is 11."), last), -1) is None
    assert find_flaw(critique(GOOD, WRONG, paragraph(3, "", output="")), 1) is None  # after the first error nothing is used


def test_a_block_may_define_what_the_next_one_prints() -> None:
    both = [*paragraph(2, "12 - 2 is 10.", "Now print.", "")[:4], *paragraph(2, "", "Paragraph 2 is wrong.", "False")[1:]]
    assert find_flaw(critique(GOOD, both), 1) is None


def test_code_output_is_no_flaw() -> None:
    noisy = paragraph(2, "12 - 2 is 10.", "Paragraph 2 is wrong.", "paragraph 2 is correct\n\\boxed{3}\n" * 20)
    assert find_flaw(critique(GOOD, noisy), 1) is None


@pytest.mark.parametrize(
    "words",
    [
        "Let me check whether the step is correct. 12 - 2 is 10, so 11 is a mistake.",
        "Step 1 is correct. But here 12 - 2 is 10.",
        "The paragraph is correct in its first half, but 12 - 2 is 10.",
        "I see no way the step is correct.",
        "If it were 10, then the paragraph is right. It is not.",
    ],
)
def test_only_a_plain_verdict_on_the_paragraph_itself_counts(words: str) -> None:
    assert find_flaw(critique(GOOD, paragraph(2, words, words, "False")), 1) is None


def test_words_in_code_are_no_verdict() -> None:
    segments = paragraph(2, "12 - 2 is 10.", "So 11 is wrong.", "False")
    segments[1] = Segment(kind=SegmentKind.CODE, text="# Check it:\n# The paragraph is correct.\nprint(12 - 2 == 11)\n")
    assert find_flaw(critique(GOOD, segments), 1) is None


def test_words_taken_back_do_not_count() -> None:
    changed = paragraph(2, "At first sight the paragraph is correct.", "The output differs, so the paragraph is wrong.", "False")
    assert find_flaw(critique(GOOD, changed), 1) is None


def test_of_real_thoughts_only_the_one_that_loops_is_called_so() -> None:
    """60 thoughts of R1-Distill-32B: one goes round and round about a one-way street, the others do not."""
    rows = [json.loads(line) for line in shared("transcripts/r1_distill_32b_think.jsonl").read_text().splitlines()]
    assert len(rows) == 60
    plain = critique(GOOD)
    looping = []
    for row in rows:
        thought = Segment(kind=SegmentKind.TEXT, text="### Paragraph 1\n" + row["response"].replace("</think>", ""))
        if find_flaw(replace(plain, segments=(thought,)), 1) is Flaw.LOOP:
            looping.append(row["response"])
    assert len(looping) == 1
    assert looping[0].count("the street is a one-way street") == 27
