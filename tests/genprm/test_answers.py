"""Answers in the forms in which models and people write them: right ones that were called wrong, and wrong ones that were called right."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.grading import grade
from actors.grading.pool import GradingPool
from genprm import rationale
from genprm.grading import extract_answer, extract_boxed, stated_answers
from genprm.grading.spelling import spell
from genprm.records import Outcome, Segment, SegmentKind
from genprm.steps import read_steps
from tests.shared_data import shared

EQUAL = {
    "a line for each row of a matrix": [
        (r"\boxed{\begin{pmatrix}" + "\n2 \\\\\n5\n" + r"\end{pmatrix}}", r"\begin{pmatrix} 2 \\ 5 \end{pmatrix}"),
        ("\\boxed{a = 4,\nb = 7}", "a=4, b=7"),
        ("\\boxed{\\frac{\n3\n}{\n4\n}}", "0.75"),
    ],
    "full stops": [
        (r"\boxed{-\frac{7}{2}}", r"-\frac{7}{2}."),
        (r"Final answer: $\frac{9}{4}.$", r"\frac{9}{4}"),
        (r"\boxed{(3,8).}", "(3,8)"),
    ],
    "type styles": [
        (r"\boxed{\mathbf{31.5}}", "31.5"),
        (r"\boxed{\text{31.5}}", "31.5"),
        (r"\boxed{**8**}", "8"),
        (r"\boxed{\color{blue}{8}}", "8"),
        (r"\boxed{4+7\mathrm{i}}", "4+7i"),
    ],
    "percent": [("\\boxed{112.5}", r"112.5\%"), ("\\boxed{0.35}", r"35\%"), ("\\boxed{35 percent}", r"35\%")],
    "in words": [
        ("Final Answer: **61**", "61"),
        ("The answer is:\n\\[\n\\frac{5}{8}\n\\]", r"\frac58"),
        ("The answer is 9. This agrees with the 2 pairs above.", "9"),
        ("**Final Answer:** $[1, 4)$", "[1,4)"),
        (r"The answer is $\$4.50$.", "4.50"),
        ("<answer>12</answer>", "12"),
    ],
    "several boxes": [
        (r"$\boxed{2}$, $\boxed{4}$ and $\boxed{9}$", "2,4,9"),
        (r"\boxed{6}, which is what \boxed{} asks for", "6"),
        (r"$\fbox{27}$", "27"),
        ("\\boxed\n{5}", "5"),
    ],
    "separators": [
        (r"\boxed{\frac{1}{3456789}}", r"\dfrac{1}{3,\!456,\!789}"),
        (r"\boxed{7\,654\,321}", "7654321"),
        (r"\boxed{\frac{1}{4,000}}", r"\frac{1}{4000}"),
    ],
    "numbers": [
        (r"\boxed{5 3/4}", "5.75"),
        (r"\boxed{0.0002}", "2e-04"),
        (r"\boxed{2.5e3}", "2500"),
        (r"\boxed{0.\overline{6}}", r"\frac23"),
        (r"\boxed{1.1\overline{6}}", r"\frac76"),
        (r"\boxed{3/4\pi}", r"\frac{3\pi}{4}"),
        (r"\boxed{7\sqrt(3)}", r"7\sqrt{3}"),
    ],
    "beyond ASCII": [
        (r"\boxed{5√7}", r"5\sqrt7"),
        (r"\boxed{¾}", r"\frac34"),
        (r"\boxed{2½}", "2.5"),
        (r"\boxed{(-∞, 9)}", r"(-\infty,9)"),
        (r"\boxed{（３，４）}", "(3,4)"),
        (r"\boxed{x² + 1}", "x^2+1"),
        (r"\boxed{−8}", "-8"),
        (r"\boxed{𝟑}", "3"),
        (r"\boxed{∅}", r"\varnothing"),
    ],
    "words": [
        (r"\boxed{\text{no solution}}", "no solution"),
        (r"\boxed{B,D}", r"\text{B,D}"),
        (r"\boxed{\textbf{(C)}\ 40}", "C"),
        (r"\boxed{(2,3)\text{ or }(5,6)}", r"(2,3)\cup(5,6)"),
        (r"\boxed{2 \text{ and } 9}", "$2$ and $9$"),
    ],
    "units": [(r"\boxed{15 km/h}", "15"), (r"\boxed{£7}", "7"), (r"\boxed{7 euros}", "7"), (r"\boxed{60^{\circ}}", "60")],
    "brackets and lists": [
        (r"\boxed{[0, 100]}", "[0,100]"),
        (r"\boxed{(3, 125)}", "(3,125)"),
        (r"\boxed{100, 200, 300}", "100,200,300"),
        (r"\boxed{\frac{abc}{a+b+c}}", "abc/(a+b+c)"),
        (r"\boxed{2^10}", "2^{10}"),
        (r"\boxed{+2x +3}", "2x+3"),
    ],
    "quantities": [
        (r"\boxed{\frac{10}{4}\text{ cm}}", r"\frac{5}{2}\text{ cm}"),
        (r"\boxed{12\,cm}", r"12\text{ cm}"),
        (r"\boxed{3\text{ million}}", "3,000,000"),
        (r"\boxed{5\text{ hours}}", r"5\text{ hrs}"),
        (r"\boxed{10:30 PM}", "10:30 p.m."),
        (r"\boxed{B}", r"\textbf{(B)}\ 12"),
    ],
    "bases and times": [(r"\boxed{(61)_7}", "61_7"), (r"\boxed{2B_{16}}", "2b_{16}"), (r"\boxed{9\text{:}45}", "9:45")],
}
DIFFERENT = {
    "not read whole": [
        (r"\boxed{2+\frac{1}{\mathrm{e}}}", r"2-\frac{1}{\mathrm{e}}"),
        (r"\boxed{x \equiv 2 \pmod 9}", r"x \equiv 5 \pmod 9"),
        (r"\boxed{4\mathbf{i}+\mathbf{j}}", r"4\mathbf{i}-\mathbf{j}"),
        (r"\boxed{\{x|-1\leq x < 4\}}", r"\{x|-2\leq x < 4\}"),
    ],
    "after the first unit": [
        (r"\boxed{3\text{ hours }15\text{ minutes}}", r"3\text{ hours }45\text{ minutes}"),
        (r"\boxed{2\text{ cats}, 6\text{ dogs}}", r"2\text{ cats}, 7\text{ dogs}"),
    ],
    "no real solution": [(r"\boxed{x^2+50=1}", "x^2+50=0"), (r"\boxed{\log_3 27=4}", r"\log_3 27=3")],
    "small numbers": [
        (r"\boxed{\frac{1}{300!}}", r"\frac{1}{301!}"), (r"\boxed{0.0000004}", "0.0000003"),
        (r"\boxed{\frac{1}{3^{70}}}", r"\frac{1}{3^{71}}")],
    "large numbers": [(r"\boxed{3^{90}}", "3^{90}+1"), (r"\boxed{10^{20}}", "10^{20}-1")],
    "bases": [(r"\boxed{31_5}", "31_6."), (r"\boxed{31_{(5)}}", "31_6")],
    "words": [(r"\boxed{\text{odd}}", r"\text{even}"), (r"\boxed{\textbf{(C)}\ 40}", "D"), (r"\boxed{9:45}", "9:40")],
    "times": [(r"\boxed{07\!:\!00}", r"08\!:\!00")],
    "percent": [(r"\boxed{0.35\%}", r"35\%")],
    "braces": [(r"\boxed{\frac{1}{23}}", r"\frac{12}{3}"), (r"\boxed{e^{2x}}", "e^2x"), (r"\boxed{\sqrt{3x}}", r"\sqrt{3}x")],
    "quantities": [
        (r"\boxed{12\text{ km}}", r"12\text{ cm}"),
        (r"\boxed{3\text{ a.m.}}", r"3\text{ p.m.}"),
        (r"\boxed{3}", r"3\text{ million}"),
        (r"\boxed{2^{20}}", "1048577.0"),
    ],
}  # fmt: skip
UNPARSABLE = [
    ("#### Step 3: Add them\nThe sum is 20.", "20"),
    (r"\boxed{1, 4, 9, \ldots, n^2}", r"1, 2, \ldots, n"),
    ("we tried 8 and then 13", "13"),
    (r"\boxed{x<2 or x>1}", "x<2 and x>1"),
    (r"\boxed{\frac{3}{0}}", "5"),
    (r"\boxed{17 \pmod{5}}", r"2 \pmod{5}"),
    (r"\boxed{3}, and then \boxed{\frac{1}{2}", "3"),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(num_processes=1)
    yield pool
    pool.close()


@pytest.mark.parametrize("kind", EQUAL)
def test_other_spellings_of_a_right_answer(kind: str, pool: GradingPool) -> None:
    for text, reference in EQUAL[kind]:
        assert grade(text, reference, pool=pool).outcome is Outcome.CORRECT, text
        assert grade(rf"\boxed{{{reference}}}", reference, pool=pool).outcome is Outcome.CORRECT, reference


@pytest.mark.parametrize("kind", DIFFERENT)
def test_wrong_answers_that_look_right(kind: str, pool: GradingPool) -> None:
    for text, reference in DIFFERENT[kind]:
        assert grade(text, reference, pool=pool).outcome is Outcome.INCORRECT, text


@pytest.mark.parametrize(("text", "reference"), UNPARSABLE)
def test_what_is_not_read_is_no_judgement(text: str, reference: str, pool: GradingPool) -> None:
    assert grade(text, reference, pool=pool).outcome is Outcome.UNPARSABLE


@settings(max_examples=200)
@given(st.text(alphabet=st.sampled_from(r"\{}[]()$*^_.,;:/+-=<>|&%#~ 0123456789abxyzTE½√∞π−²₂" + "\n"), max_size=40))
def test_spelling_is_final_and_never_fails(text: str) -> None:
    once = spell(text)
    assert spell(once) == spell(spell(once))
    extract_answer(text)
    extract_answer(f"the answer is {text}")


def test_reports_of_others_are_graded_as_they_should_be(pool: GradingPool) -> None:
    known_open = {r"so $\boxed{1, 3, 5, \ldots, 2n-1}$.", r"so $\boxed{1+2+\cdots+n}$."}  # unparsable: no judgement
    cases = [json.loads(line) for line in shared("../cases/public.jsonl").read_text().split("\n") if line]
    cases = [case for case in cases if case["api"] == "genprm.grading.grade"]
    assert len(cases) > 100
    for case in cases:
        given_, expected = case["input"], case["expected"]["outcome"]
        found = grade(given_["text"], given_["reference"], pool=pool, timeout_s=2.0).outcome.value
        if given_["text"] in known_open:
            assert found == "unparsable"
        else:
            assert found in (expected if isinstance(expected, list) else expected.split(" or ")), given_


def in_box(text: str, change: Callable[[str], str]) -> str:
    """The text with the last box's content changed."""
    answer = extract_boxed(text)
    head, box, tail = text.rpartition("\\boxed{")
    return text if not box or answer is None else head + box + tail.replace(answer, change(answer), 1)


SPELLED_OTHERWISE: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace("\\frac", "\\dfrac"),
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\\boxed{", "\\boxed {\n"),
    lambda text: text.replace("\\boxed{", "\\fbox{"),
    lambda text: f"{text}\n\nI hope this helps. \\boxed{{}}",
    lambda text: in_box(text, lambda answer: f"\\displaystyle {answer}."),
    lambda text: in_box(text, lambda answer: answer.replace("-", "−")),
    lambda text: in_box(text, lambda answer: f"$ {answer} $"),
    lambda text: in_box(text, lambda answer: answer.translate({48 + digit: 0xFF10 + digit for digit in range(10)})),
)


def real_solutions(number: int) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in shared("step_solutions/qwen25math_bon8_math100.jsonl").read_text().split("\n") if line]
    return [(text, row["gt"]) for row in rows for text in row["code"]][:: 800 // number]


@pytest.mark.slow
def test_judgements_of_real_solutions_do_not_depend_on_spelling(pool: GradingPool) -> None:
    for text, reference in real_solutions(100):
        outcome = grade(text, reference, pool=pool).outcome
        for change in SPELLED_OTHERWISE:
            assert grade(change(text), reference, pool=pool).outcome is outcome, change(text)[-200:]


HOSTILE = ("\\boxed{" * 9000, "\\boxed{a " * 9000, "answer is " * 9000, "$" * 90_000, "# Paragraph 1" + " " * 90_000 + "x")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_parser_is_slow_on_hostile_text(text: str) -> None:
    began = time.process_time()
    stated_answers(text)
    rationale.read_verdict(text)
    rationale.code_blocks(text)
    rationale.split_rationale([Segment(kind=SegmentKind.TEXT, text=text)])
    assert time.process_time() - began < 5.0, "seconds; quadratic ones took minutes"


DAMAGE = ("", "\\", "{", "}", "$", "```", "\n", "\\boxed{", "½", "\ud800", "\x00")


@pytest.mark.slow
def test_no_parser_fails_on_real_texts_that_were_damaged() -> None:
    chance = random.Random(0)
    transcripts = shared("transcripts/r1_distill_32b_think.jsonl").read_text().split("\n")
    texts = [text for text, _ in real_solutions(50)] + transcripts[:30]
    for text in texts * 4:
        damaged = text[-4000:]
        for _ in range(20):
            place, length = chance.randrange(len(damaged) + 1), chance.choice((0, 1, 5, 50))
            damaged = damaged[:place] + chance.choice(DAMAGE) + damaged[place + length :]
        spell(damaged[-300:])
        stated_answers(damaged)
        read_steps(damaged)
        rationale.read_verdict(damaged)
        rationale.code_blocks(damaged)
        rationale.split_rationale([Segment(kind=SegmentKind.TEXT, text=damaged)])
