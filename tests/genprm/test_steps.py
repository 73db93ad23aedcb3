import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.steps import Marker, StepSplit, join_steps, marker, prefix_after, read_steps, split_paragraphs, split_steps, strip_markers


def test_splits_at_markers_that_count_on() -> None:
    assert split_steps("Step 1: a\nmore a\n\nStep 2: b\nStep 3: c") == ["a\nmore a", "b", "c"]
    assert split_steps("Step 1: a\r\nStep 2: b\r\n") == ["a", "b"]
    assert split_steps("Step 0: set up\nStep 1: a") == ["set up", "a"]


def test_blank_lines_and_quoted_markers_are_not_boundaries() -> None:
    assert split_steps("Step 1: see\nStep 1: again\n\nstill\nStep 3: no\nStep 2: b") == [
        "see\nStep 1: again\n\nstill\nStep 3: no",
        "b",
    ]
    assert split_steps("Step 1: a\n> Step 2: quoted\n`Step 2:` too\nStep 2: b") == ["a\n> Step 2: quoted\n`Step 2:` too", "b"]


@pytest.mark.parametrize(
    "second",
    [
        "Step 2: b", "    Step 2: b", "STEP 2: b", "step 2: b", "Step 2. b", "Step 2) b", "Step 2 - b", "Step 2 – b", "Step #2: b",
        "Step two: b", "(Step 2) b", "[Step 2]: b", "Step 2\nb", "Step 2 : b", "## Step 2: b", "### Step 2\nb", "#### Step 2. b",
        "**Step 2:** b", "**Step 2**: b", "**Step 2** b", "**Step 2:**\n\nb", "### **Step 2:** b", "__Step 2:__ b", "*Step 2:* b",
        "- Step 2: b", "* **Step 2:** b", "2. **Step 2:** b", "\\textbf{Step 2:} b", "\\section*{Step 2}\nb", "步骤2：b", "步骤 2: b",
        "**步骤二：** b", "第2步：b", "第二步，b",
    ],
)  # fmt: skip
def test_markers_in_the_forms_in_which_models_write(second: str) -> None:
    assert split_steps(f"Step 1: a\n\n{second}") == ["a", "b"]
    assert split_steps(f"{second.replace('2', '1').replace('two', 'one').replace('二', '一')}\n\nStep 2: c") == ["b", "c"]


@pytest.mark.parametrize(
    ("second", "step"),
    [
        ("**Step 2: Simplify**\nb", "Simplify\nb"),
        ("### Step 2: Simplify\nb", "Simplify\nb"),
        ("## Step 2 Simplify\nb", "Simplify\nb"),
        ("**Step 2 Simplify**\nb", "Simplify\nb"),
        ("Step 2 (Simplify): b", "Simplify: b"),
        ("Step 2 (Simplify)\nb", "Simplify\nb"),
        ("**Step 2 (Simplify):** b", "Simplify: b"),
        ("\\textbf{Step 2: Find $\\frac{1}{2}$} b", "Find $\\frac{1}{2}$ b"),
        ("Step 2: **bold** b", "**bold** b"),
        ("*Step 2: x_1 * 2*", "x_1 * 2"),
    ],
)
def test_titles_stay_and_their_emphasis_goes(second: str, step: str) -> None:
    assert split_steps(f"Step 1: a\n{second}") == ["a", step]


@pytest.mark.parametrize(
    "line",
    [
        "Step 1.1: aa", "Step 2.5 is half", "Step 2 is wrong", "Steps 2 and 3:", "Step 2, we add", "Step 2nd: b", '"Step 2: b"',
        "| Step 2: | b |", "In Step 2: b", "**Step 2 is wrong** because", "(Step 2 b", "Step 2a: b", "步骤", "第二步骤是", "Step : b", "",
    ],
)  # fmt: skip
def test_text_that_only_looks_like_a_marker(line: str) -> None:
    assert marker(line) is None


def test_a_marker_has_its_number() -> None:
    assert marker("**Step 12:** a") == Marker(12, " a")
    assert [marker(f"第{digits}步：") for digits in ("十", "十二", "二十一", "二十")] == [Marker(n, "") for n in (10, 12, 21, 20)]
    assert marker("Step １２: a") == Marker(12, " a")


def test_code_is_never_cut() -> None:
    code = "```python\n# the plan\nStep 2: this is no step\n```"
    assert split_steps(f"Step 1: run\n{code}\nStep 2: b") == [f"run\n{code}", "b"]
    assert split_steps("Step 1: ````\nStep 2: in\n```\n````\nStep 2: b") == ["````\nStep 2: in\n```\n````", "b"]
    assert split_steps("Step 1: a\n~~~\nStep 2: b\n~~~") == ["a\n~~~\nStep 2: b\n~~~"]


def test_a_fence_that_never_closes_is_none() -> None:
    assert split_steps("Step 1: ```python\nx\nStep 2: b") == ["```python\nx", "b"]


def test_empty_steps_are_dropped_and_repeated_markers_too() -> None:
    assert split_steps("Step 1:\nStep 2: b") == ["b"]
    assert split_steps("Step 1: the answer is \\boxed{2}\nStep 2:") == ["the answer is \\boxed{2}"]
    assert split_steps("Step 1:\n\nStep 1: a\nStep 2: b") == ["a", "b"]
    assert split_steps("Step 1: **Step 1:** a\nStep 2: b") == ["a", "b"]


def test_what_was_left_out_or_joined_is_counted() -> None:
    assert read_steps("Sure!\nStep 1: Step 1: a\nStep 3: c\nStep 2:\n\n## Step 3\nd") == StepSplit(
        steps=("a\nStep 3: c", "d"), num_markers=3, preamble="Sure!", num_empty=1, num_repeated=1, num_unordered=1
    )
    assert read_steps("Step 4: late") == StepSplit(steps=("Step 4: late",), num_markers=0, num_unordered=1)


def test_math_shepherds_tags_are_no_words_of_a_step() -> None:
    assert split_steps("Step 1: 1+1=2. ки\nStep 2: The answer is: 2 ки") == ["1+1=2.", "The answer is: 2"]
    assert split_steps("Step 1: яблоки\nStep 2: ки") == ["яблоки"]
    assert split_steps(join_steps(["a ки", "ки", "b \\ки"])) == ["a ки", "ки", "b \\ки"]


def test_text_without_markers_is_one_step_and_empty_text_none() -> None:
    assert split_steps("just text") == ["just text"]
    assert split_steps("one\n\ntwo steps\n") == ["one\n\ntwo steps"]
    assert split_steps("  \n") == []


def test_text_before_the_first_marker_is_dropped() -> None:
    assert split_steps("Sure!\nStep 1: a") == ["a"]


def test_lists_of_steps_lose_the_markers_that_count_on() -> None:
    assert strip_markers(["Step 1: a", "**Step 2:** b", "", "Step 3: c", "Choice: d", "Step 2: as above"]) == [
        "a", "b", "", "c", "Choice: d", "Step 2: as above",
    ]  # fmt: skip
    assert strip_markers(["Step 0: a", "Step 1: b ки"]) == ["a", "b"]
    assert strip_markers(["a", "Step 2: quoted"]) == ["a", "Step 2: quoted"]


def test_paragraphs_keep_code_and_formulas_whole() -> None:
    text = "One.\n\n\nTwo:\n\n- x\n\nThree is\n\n\\[\n\n1\n\n\\]\n\n```\na\n\nb\n```\n\n$$2$$\n\n\nfour"
    assert split_paragraphs(text) == [
        "One.", "Two:\n\n- x", "Three is\n\n\\[\n\n1\n\n\\]", "```\na\n\nb\n```\n\n$$2$$", "four",
    ]  # fmt: skip
    assert split_paragraphs(" \n") == []


def test_the_prefix_of_ordinary_steps_is_plain() -> None:
    assert prefix_after(["a", "b"]) == "Step 1: a\nStep 2: b\nStep 3:"
    assert prefix_after([]) == "Step 1:"
    ordinary = ["see Step 1: it\nStep 1: again", "```python\nprint(1)\n```", "**Bold**\n\n\\frac{1}{2}", "Step 9: skipped"]
    assert join_steps(ordinary) == "\n".join(f"Step {n}: {step}" for n, step in enumerate(ordinary, start=1))


def test_a_quoted_marker_is_escaped_and_comes_back() -> None:
    steps = ["a\n\nStep 2: quoted", "b"]
    assert join_steps(steps) == "Step 1: a\n\n\\Step 2: quoted\nStep 2: b"
    assert split_steps(join_steps(steps)) == steps


@given(st.text())
def test_any_text_splits(text: str) -> None:
    assert all(step and step == step.strip() for step in split_steps(text))
    assert all(block == block.strip() for block in split_paragraphs(text))


PIECES = [
    "Step 1:", "Step 2:", "Step 3", "step two.", "\\", "```", "```python", "`````", "~~~", "**", "### ", "- ", "1. ", " ", "\n", "a",
    "步骤2：", "第一步，", "ки", "\r", "\\textbf{", "}", "(t)", "Step 0:", "\x0b", "\u2028", ">",
]  # fmt: skip
STEP = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=10).map("".join)).map(str.strip).filter(bool)


@settings(max_examples=1000)
@given(st.lists(STEP, min_size=1, max_size=5))
def test_split_inverts_join(steps: list[str]) -> None:
    assert split_steps(join_steps(steps)) == steps


@pytest.mark.parametrize(
    "text",
    [
        " " * 100_000 + "x", "Step 1" + " " * 100_000 + "x", "```a\n" * 20_000, "\\" * 100_000 + "Step 1:", "Step 1: " * 10_000,
        "**Step 1 " * 10_000, "\\textbf{Step 1" * 7_000, "Step 1 (" * 10_000, "\\[\n\n" * 20_000, "#" * 100_000, "1. " * 30_000,
        " ки" * 30_000, "Step 1:" + "\n" * 50_000 + "Step 1:\n" * 6_000, "\n".join("`" * (3 + i % 300) + "a" for i in range(600)),
    ],
)  # fmt: skip
def test_hostile_text_takes_no_time(text: str) -> None:
    began = time.monotonic()
    split_steps(text)
    split_paragraphs(text)
    join_steps([text.strip()])
    assert time.monotonic() - began < 2
