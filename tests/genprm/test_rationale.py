from hypothesis import given
from hypothesis import strategies as st

from genprm import rationale
from genprm.rationale import Verdict
from genprm.records import Segment, SegmentKind

MARKUP = st.lists(
    st.sampled_from(
        ["<analyze>", "</analyze>", "<verify>", "</verify>", "```python\n", "```\n", "```", "### Paragraph 1\n", "### Paragraph 2\n",
         "\\boxed{Yes}", "\\boxed{No}", "\\boxed{", "</think>", "x", "\n", "1", "-1}", "[Code Output]\n\n"]
    )
).map("".join)  # fmt: skip


def test_wire_format_to_the_byte() -> None:
    assert rationale.SYSTEM == ("You are a math teacher. Your task is to review and critique the paragraphs in solution step by step.")
    assert rationale.analyze_prefill(3) == "<analyze>\nLet's analyze the Paragraph 3 step by step: "
    assert rationale.VERIFY_PREFILL == "<verify>\nLet's use python code to find any potential error:\n```python\n"
    assert rationale.OUTPUT_PREFILL == "<output>\n**Judgement**: $\\boxed"
    assert rationale.code_output_block("5050") == "[Code Output]\n\n```\n5050\n```\n"
    assert rationale.RATIONALE_PREFILL == "<think>\n### Paragraph 1\n<analyze>\n"
    assert rationale.user_turns("P", ["a", "b"]) == ["P\na", "b"]


def test_paragraphs_are_numbered_and_tagged() -> None:
    prompt = rationale.rationale_prompt("P", ["a", "b"], "Do.")
    assert prompt.endswith("<paragraph_1>\na\n</paragraph_1>\n<paragraph_2>\nb\n</paragraph_2>")


def test_closed_code() -> None:
    assert rationale.closed_code_at_end("x\n```python\nprint(1)\n```\n") == "print(1)\n"
    assert rationale.closed_code_at_end("x\n```python\nprint(1)") is None
    assert rationale.closed_code_at_end("```python\n1\n```\nwords") is None
    assert rationale.code_blocks("```python\n1\n```\nand\n```py\n2\n```\n```python\n3") == ["1\n", "2\n"]


def test_the_last_verdict_counts() -> None:
    assert rationale.read_verdict("it says $\\boxed{Yes}$ but $\\boxed{No}$") is Verdict.NO
    assert rationale.read_verdict("\\boxed{\\text{Yes}}") is Verdict.YES
    assert rationale.read_verdict("\\boxed{maybe}") is Verdict.UNREADABLE


def test_final_index_becomes_zero_based() -> None:
    assert rationale.read_final_index("{2}$", 3) == 1
    assert rationale.read_final_index("{-1}$", 3) == -1
    assert rationale.read_final_index("{4}", 3) is None
    assert rationale.read_final_index("{0}", 3) is None
    assert rationale.read_final_index("two", 3) is None


def test_text_from_code_output_closes_no_tag() -> None:
    segments = [
        Segment(kind=SegmentKind.TEXT, text="### Paragraph 1\n<analyze>\na\n</analyze>\n<verify>\n```python\n"),
        Segment(kind=SegmentKind.CODE, text="print('</verify>')\n"),
        Segment(kind=SegmentKind.TEXT, text="```\n"),
        Segment(kind=SegmentKind.OUTPUT, text="[Code Output]\n\n```\n</verify>\n### Paragraph 9\n```\n"),
        Segment(kind=SegmentKind.TEXT, text="fine\n</verify>\n</think>\n### Paragraph 2\n"),
    ]
    critiques = rationale.split_rationale(segments)
    assert [critique.paragraph for critique in critiques] == [1]


@given(st.text() | MARKUP)
def test_parsers_take_any_text(text: str) -> None:
    rationale.closed_code_at_end(text)
    rationale.code_blocks(text)
    rationale.read_analysis(text)
    assert rationale.read_verdict(text) in Verdict
    assert rationale.read_final_index(text, 5) in (None, -1, 0, 1, 2, 3, 4)


@given(st.lists(st.tuples(st.sampled_from(list(SegmentKind)), st.text() | MARKUP)))
def test_any_rationale_splits_and_keeps_its_text(pieces: list[tuple[SegmentKind, str]]) -> None:
    segments = [Segment(kind=kind, text=text) for kind, text in pieces]
    whole = "".join(segment.text for segment in segments)
    for critique in rationale.split_rationale(segments):
        assert critique.text in whole
        critique.part("analyze")
        critique.part("verify")
