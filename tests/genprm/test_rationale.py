import pytest
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


FENCES = {
    "```python\nprint(2)\n```\n": "print(2)\n",
    "```Python\nprint(2)\n```\n": "print(2)\n",
    "``` python\nprint(2)\n``` \nmore": "print(2)\n",
    "```{.python .numberLines}\nprint(2)\n```\n": "print(2)\n",
    "```python3 title=check\nprint(2)\n```\n": "print(2)\n",
    "````python\nprint('```')\n```\n````\n": "print('```')\n```\n",
    "~~~py\nprint(2)\n~~~\n": "print(2)\n",
    "  ```python\n  if 1:\n    print(2)\n  ```\n": "if 1:\n  print(2)\n",
    "```python\r\nprint(2)\r\n```\r\n": "print(2)\n",
    "```python\nprint(2)\n```": "print(2)\n",
    "```python\nprint(2)\n```</verify>": "print(2)\n",
    "```python\nprint(2)": None,
    "```python\nprint(2)\n``\n": None,
    "```pythonic\nprint(2)\n```\n": None,
    "```text\nprint(2)\n```\n": None,
    "say ```python\nprint(2)\n```\n": None,
}


@pytest.mark.parametrize("text", FENCES)
def test_closed_blocks_of_python(text: str) -> None:
    block = rationale.closed_block(f"Words.\n{text}")
    assert (block and block.code) == FENCES[text]


def test_code_blocks_in_order() -> None:
    assert rationale.code_blocks("```python\n1\n```\nand\n```py\n2\n```\n```python\n3") == ["1\n", "2\n"]


@pytest.mark.parametrize(
    ("box", "verdict"),
    [
        (r"\boxed{Yes}", Verdict.YES),
        (r"\boxed {Yes}", Verdict.YES),
        (r"\boxed{\textbf{No}}", Verdict.NO),
        (r"\boxed{\mathrm{ yes }}", Verdict.YES),
        (r"\boxed{{No}}", Verdict.NO),
        (r"\boxed{**No.**}", Verdict.NO),
        (r"\boxed{Yes", Verdict.YES),
        (r"\boxed{Yes} so the sum is \boxed{12}", Verdict.YES),
        (r"\boxed{No error}", Verdict.UNREADABLE),
        (r"\boxed{Yes/No}", Verdict.UNREADABLE),
        (r"\boxed{Yes or No}", Verdict.UNREADABLE),
        (r"\boxed{Yes} but then \boxed{No errors found}", Verdict.UNREADABLE),
        (r"\boxed{None}", Verdict.UNREADABLE),
        ("no box", Verdict.UNREADABLE),
    ],
)
def test_the_word_alone_in_the_box_decides(box: str, verdict: Verdict) -> None:
    assert rationale.read_verdict(f"I judge: ${box}") is verdict


HEADINGS = (
    "### Paragraph 2", "### Paragraph 2:", "#### Paragraph 2", "### Paragraph {2}", "## **Paragraph 2**", "### PARAGRAPH 2.",
)  # fmt: skip


@pytest.mark.parametrize("heading", HEADINGS)
def test_headings_of_paragraphs_as_models_write_them(heading: str) -> None:
    segments = [Segment(kind=SegmentKind.TEXT, text=f"### Paragraph 1\na\n{heading}\nb\nParagraph 3 follows.\n")]
    assert [part.paragraph for part in rationale.split_rationale(segments)] == [1, 2]


def test_the_last_verdict_counts() -> None:
    assert rationale.read_verdict("it says $\\boxed{Yes}$ but $\\boxed{No}$") is Verdict.NO
    assert rationale.read_verdict("\\boxed{\\text{Yes}}") is Verdict.YES
    assert rationale.read_verdict("\\boxed{maybe}") is Verdict.UNREADABLE


def test_final_index_becomes_zero_based() -> None:
    assert rationale.read_final_index("{2}$", 3) == 1
    assert rationale.read_final_index("{-1}$", 3) == -1
    assert rationale.read_final_index("{\u22121}$", 3) == -1
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
    rationale.closed_block(text)
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
