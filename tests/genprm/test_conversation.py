import pytest

from genprm.conversation import NotConvertible, build_conversation
from genprm.records import Critique, CritiqueOutcome, Segment, SegmentKind


def paragraph(number: int, words: str, code: str, output: str, end: str) -> list[Segment]:
    return [
        Segment(kind=SegmentKind.TEXT, text=f"### Paragraph {number}\n<analyze>\n{words}\n</analyze>\n<verify>\nLet me see:\n```python\n"),
        Segment(kind=SegmentKind.CODE, text=code),
        Segment(kind=SegmentKind.TEXT, text="```\n"),
        Segment(kind=SegmentKind.OUTPUT, text=f"[Code Output]\n\n```\n{output}\n```\n"),
        Segment(kind=SegmentKind.TEXT, text=f"{end}\n</verify>\n\n"),
    ]  # fmt: skip


def critique(segments: list[Segment]) -> Critique:
    return Critique(
        id="p/s0",
        problem_id="p",
        problem="P",
        level=None,
        steps=("a", "b", "c"),
        segments=tuple(segments),
        outcome=CritiqueOutcome.READ,
        index_votes_V=(1, 1),
        judged_first_error=1,
        num_code_blocks=2,
        num_tokens=9,
    )


def test_one_pair_of_turns_per_step_up_to_the_first_error() -> None:
    segments = paragraph(1, "good", "print(1)\n", "1", "right") + paragraph(2, "bad", "print(2)\n", "2", "wrong")
    conversation = build_conversation(critique(segments), 1)
    assert [message.role for message in conversation.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [message.content for message in conversation.messages if message.role == "user"] == ["P\na", "b"]
    assert conversation.messages[4].content == (
        "<analyze>\nLet's analyze the Paragraph 2 step by step: bad\n</analyze>\n"
        "<verify>\nLet's use python code to find any potential error:\n```python\nprint(2)\n```\n"
        "[Code Output]\n\n```\n2\n```\nwrong\n</verify>\n"
        "<output>\n**Judgement**: $\\boxed{No}$\n</output>\n"
    )


def test_loss_lies_on_the_models_own_text_only() -> None:
    segments = paragraph(1, "good", "print(1)\n", "1", "right") + paragraph(2, "bad", "print(2)\n", "2", "wrong")
    message = build_conversation(critique(segments), 1).messages[2]
    assert [message.content[span.start : span.end] for span in message.loss_spans] == [
        "good\n</analyze>",
        "print(1)\n```\n",
        "right\n</verify>",
        "\n<output>\n**Judgement**: $\\boxed",
        "{Yes}$\n</output>",
        "\n",
    ]
    assert build_conversation(critique(segments), 1).messages[1].loss_spans == ()


def test_output_inside_the_analysis_carries_no_loss() -> None:
    segments = paragraph(1, "good", "print(1)\n", "1", "right") + paragraph(2, "bad", "print(2)\n", "2", "wrong")
    output = "[Code Output]\n\n```\n7\n```\n"
    segments[:1] = [
        Segment(kind=SegmentKind.TEXT, text="### Paragraph 1\n<analyze>\nlet me try\n"),
        Segment(kind=SegmentKind.OUTPUT, text=output),
        Segment(kind=SegmentKind.TEXT, text="good\n</analyze>\n<verify>\n```python\n"),
    ]
    message = build_conversation(critique(segments), 1).messages[2]
    assert f"let me try\n{output}good\n</analyze>" in message.content
    assert not any("[Code Output]" in message.content[span.start : span.end] for span in message.loss_spans)


def test_direct_turns_hold_only_the_judgement() -> None:
    segments = paragraph(1, "good", "print(1)\n", "1", "right") + paragraph(2, "bad", "print(2)\n", "2", "wrong")
    message = build_conversation(critique(segments), 1, direct=True).messages[2]
    assert message.content == "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"


def test_a_skipped_paragraph_and_a_missing_part_are_named() -> None:
    with pytest.raises(NotConvertible, match="paragraph skipped"):
        build_conversation(critique(paragraph(1, "good", "print(1)\n", "1", "right")), 1)
    broken = [Segment(kind=SegmentKind.TEXT, text="### Paragraph 1\n<analyze>\nx\n")]
    with pytest.raises(NotConvertible, match="without its parts"):
        build_conversation(critique(broken), 1)
