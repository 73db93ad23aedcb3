from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.conversation import build_conversation
from genprm.records import Critique, CritiqueOutcome, Segment, SegmentKind
from tests.workflows.inputs.files import write_lines
from workflows.inputs.critiques import CritiquesConfig, cut_text, final_index, read_critiques
from workflows.inputs.solutions import SolutionsConfig, read_solutions

TEXT, CODE, OUTPUT = SegmentKind.TEXT, SegmentKind.CODE, SegmentKind.OUTPUT


def paragraph(number: int, words: str = "fine", code: str = "print(1)\n", output: str = "1") -> str:
    return (
        f"### Paragraph {number}\n<analyze>\n{words}\n</analyze>\n<verify>\nLet me see:\n```python\n{code}```\n"
        f"[Code Output]\n\n```\n{output}\n```\nso it is.\n</verify>\n\n"
    )


def row(text: str | None = None, **more: Any) -> dict[str, Any]:
    text = f"<think>\n{paragraph(1)}{paragraph(2, 'wrong')}</think>\nThe index is $\\boxed{{2}}$." if text is None else text
    return {"problem": "P", "steps": ["a", "b"], "critique": text, **more}


def read(tmp_path: Path, *rows: object, **settings: Any) -> list[Critique]:
    return read_critiques(CritiquesConfig(path=write_lines(tmp_path / "c.jsonl", rows), **settings))[0]


def test_a_text_is_cut_into_words_code_and_output(tmp_path: Path) -> None:
    critique = read(tmp_path, row())[0]
    assert [segment.kind for segment in critique.segments] == [TEXT, CODE, TEXT, OUTPUT, TEXT, CODE, TEXT, OUTPUT, TEXT]
    assert critique.segments[1:4] == (
        Segment(kind=CODE, text="print(1)\n"), Segment(kind=TEXT, text="```\n"),
        Segment(kind=OUTPUT, text="[Code Output]\n\n```\n1\n```\n"),
    )  # fmt: skip
    assert "".join(segment.text for segment in critique.segments) == row()["critique"]
    assert (critique.outcome, critique.judged_first_error, critique.num_code_blocks) == (CritiqueOutcome.READ, 1, 2)
    assert (critique.id, critique.problem_id) == ("problem-148de9c5a7a4/s0", "problem-148de9c5a7a4")


def test_the_critique_becomes_a_conversation(tmp_path: Path) -> None:
    conversation = build_conversation(read(tmp_path, row())[0], 1)
    assert [message.content for message in conversation.messages if message.role == "user"] == ["P\na", "b"]
    assert conversation.messages[4].content == (
        "<analyze>\nLet's analyze the Paragraph 2 step by step: wrong\n</analyze>\n"
        "<verify>\nLet's use python code to find any potential error:\n```python\nprint(1)\n```\n"
        "[Code Output]\n\n```\n1\n```\nso it is.\n</verify>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n"
    )


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (paragraph(1) + "$\\boxed{-1}$", -1),
        (paragraph(1) + "either \\boxed{1} or \\boxed{2}", 1),
        (paragraph(1, "the solution boxes \\boxed{1}"), None),
        (paragraph(1, output="\\boxed{1}"), None),
        (paragraph(1) + "\\boxed{3}", None),
        (paragraph(1) + "\\boxed{one}", None),
        ("it is \\boxed{1}", 0),
        ("<think>\n" + paragraph(1) + "maybe \\boxed{2}</think>\n\\boxed{1}", 0),
    ],
)
def test_the_verdict_is_boxed_after_the_last_paragraph(tmp_path: Path, text: str, verdict: int | None) -> None:
    assert final_index(cut_text(text), 2) == verdict
    critique = read(tmp_path, row(text))[0]
    assert critique.judged_first_error == verdict
    assert critique.outcome is (CritiqueOutcome.NO_VERDICT if verdict is None else CritiqueOutcome.READ)


def test_a_field_with_the_verdict_comes_first(tmp_path: Path) -> None:
    assert read(tmp_path, row(judged_first_error=-1))[0].judged_first_error == -1
    assert read(tmp_path, row(mine="0"), verdict_field="mine")[0].judged_first_error == 0
    _, rejects, _ = read_critiques(CritiquesConfig(path=write_lines(tmp_path / "c.jsonl", [row(), row(judged_first_error=2)])))
    assert [reject.reason for reject in rejects] == ["judged first error is no step"]


def test_our_own_rows_come_back(tmp_path: Path) -> None:
    critique = read(tmp_path, row(id="p/s3"))[0]
    assert read(tmp_path, critique.row()) == [critique]


def test_ids_are_those_of_the_solutions(tmp_path: Path) -> None:
    rows = [row(id="p"), {**row(), "steps": ["c"]}, {**row(), "problem": "Q"}]
    solutions, _, _ = read_solutions(SolutionsConfig(path=write_lines(tmp_path / "s.jsonl", rows)))
    critiques = read(tmp_path, *rows)
    assert [critique.id for critique in critiques] == [solution.id for solution in solutions]
    given = read(tmp_path, row(id="p/s7"), row(id="train/p/s1.json"))
    assert [(critique.problem_id, critique.id) for critique in given] == [("p", "p/s7"), ("train/p/s1.json", "train/p/s1.json/s0")]
    _, rejects, _ = read_critiques(CritiquesConfig(path=write_lines(tmp_path / "c.jsonl", [row(), row(), row(id="p/s0"), row(id="p/s0")])))
    assert [reject.reason for reject in rejects] == ["second critique of a solution"] * 2


def turns(*judgements: str, first: str = "P\na") -> list[dict[str, str]]:
    messages = [{"role": "system", "content": "S"}]
    for number, judgement in enumerate(judgements, start=1):
        messages += [
            {"role": "user", "content": first if number == 1 else f"step {number}"},
            {
                "role": "assistant",
                "content": f"<analyze>\nLet's analyze the Paragraph {number} step by step: fine\n</analyze>\n<verify>\n"
                "Let's use python code to find any potential error:\n```python\nprint(1)\n```\n[Code Output]\n\n```\n1\n```\n</verify>\n"
                f"<output>\n**Judgement**: $\\boxed{{{judgement}}}$\n</output>\n",
            },
        ]
    return messages


def test_genprms_turns_are_a_critique(tmp_path: Path) -> None:
    critique = read(tmp_path, {"messages": turns("Yes", "No")})[0]
    assert (critique.problem, critique.steps, critique.judged_first_error) == ("P", ("a", "step 2"), 1)
    messages = build_conversation(critique, 1).messages
    assert [message.content for message in messages[1:]] == [message["content"] for message in turns("Yes", "No")[1:]]


@pytest.mark.parametrize(
    ("judgements", "more", "verdict"),
    [
        (("Yes", "Yes"), {}, -1),
        (("Yes", "maybe"), {}, None),
        (("maybe", "No"), {}, None),
        (("Yes",), {"steps": ["a", "b"]}, None),
        (("No",), {"steps": ["a", "b"]}, 0),
    ],
)
def test_the_first_no_is_the_verdict(tmp_path: Path, judgements: tuple[str, ...], more: dict[str, Any], verdict: int | None) -> None:
    assert read(tmp_path, {"messages": turns(*judgements), **more})[0].judged_first_error == verdict


@pytest.mark.parametrize(
    ("first", "more", "expected"),
    [
        ("P\n\np\na", {"problem": "P\n\np"}, ("P\n\np", "a")),
        ("P\n\na\n\nb", {"steps": ["a\n\nb"]}, ("P", "a\n\nb")),
        ("Question: P\n\na\nb", {}, ("P", "a\nb")),
        ("P\nStep 1: a", {}, ("P", "a")),
    ],
)
def test_problem_and_first_step_are_taken_apart(tmp_path: Path, first: str, more: dict[str, Any], expected: tuple[str, str]) -> None:
    critique = read(tmp_path, {"messages": turns("No", first=first), **more})[0]
    assert (critique.problem, critique.steps[0]) == expected


def test_bad_rows_have_their_reasons(tmp_path: Path) -> None:
    bad: list[Any] = [
        {"problem": "P", "steps": ["a"]},
        row(" "),
        {**row(), "critique": 7},
        {**row(), "segments": [{"kind": "talk", "text": "x"}]},
        {**row(), "segments": [{"kind": "text", "text": "\ud800"}]},
        {"messages": turns("Yes")[:2]},
        {"messages": [*turns("Yes"), {"role": "assistant", "content": "again"}]},
        {"messages": ["x"]},
        {"messages": turns("Yes"), "problem": "Q"},
        {"messages": turns("Yes"), "steps": ["z"]},
        {"messages": turns("Yes", first="P")},
        {"messages": turns("Yes", "Yes"), "steps": ["a"]},
        {"problem": "P", "critique": "x"},
    ]
    _, rejects, _ = read_critiques(CritiquesConfig(path=write_lines(tmp_path / "c.jsonl", [*bad, row()])))
    assert [reject.reason for reject in rejects] == [
        "no critique", "no critique", "critique is not text", "segments are not objects with a text and a kind (text, code, output)",
        "segments is not valid Unicode", "messages are not pairs of user and assistant", "messages are not pairs of user and assistant",
        "messages are not objects with role and content", "the first message does not begin with the problem",
        "the first message does not end in the first step", "the first message has no step", "more user messages than steps", "no steps",
    ]  # fmt: skip
    with pytest.raises(
        ValueError, match=r"1 for 'no critique'.*critiques\.critique_field = critique or rationale.*Set critiques\.critique_field"
    ):
        read(tmp_path, bad[0])


@given(
    st.lists(
        st.sampled_from(["```python\n", "```\n", "```", "[Code Output]\n\n", "x\n", "\n", "\\boxed{1}", "</verify>"]), max_size=12
    ).map("".join)
)
def test_segments_are_the_text(text: str) -> None:
    assert "".join(segment.text for segment in cut_text(text)) == text
