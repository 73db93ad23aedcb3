"""What spoils a critique as training data, and how it is noticed (section 3.2.3 asks for critiques worth imitating).

Consensus only compares final indices: a critique can reach the right index in a way that must not be taught. Each rule is a member
of `Flaw` and says why it exists. The rules read what the model wrote; code output is the executor's and is no flaw. They
prefer to miss a flaw over dropping a good critique, since what they miss is one row in thousands.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from genprm import rationale
from genprm.rationale import ParagraphCritique, split_rationale
from genprm.records import Critique, Segment, SegmentKind

LOOP_WORDS = 8
LOOP_MIN_WORDS = 60
LOOP_SHARE = 0.3
COPY_WORDS = 8
COPY_MIN_WORDS = 30
COPY_SHARE = 0.8


class Flaw(enum.StrEnum):
    """Why a critique is dropped; the value is the reason that is counted."""

    OUT_OF_ORDER = "paragraphs out of order"
    """A paragraph judged twice, or before an earlier one: in training each turn sees the turns before it and nothing else."""

    SOLVED_AGAIN = "solved the problem again"
    """An analysis that boxes an answer of its own where the paragraph has none: it teaches to compare answers, not to judge steps."""

    COPIED = "copied the solution"
    """An analysis that is nearly all the problem's and the solution's own wording: it teaches to repeat, and judges nothing."""

    SILENT_CODE = "code without output"
    """A check that printed nothing: what follows it is not based on a result, which teaches that checking is a ritual."""

    CONTRADICTION = "verdict against its own words"
    """A paragraph called wrong that the verdict takes for right, or the other way round: the turn would argue against its end."""

    LOOP = "repeated text"
    """The same words over and over: sampling got stuck, and a model trained on it gets stuck more often."""


def find_flaw(critique: Critique, first_error: int, tolerated: Collection[Flaw] = ()) -> Flaw | None:
    """The first rule, in the order of `Flaw`, that the critique breaks in what training would use: up to the first error.

    ``first_error`` is the solution's label, on which estimate and judge agree: 0-based, -1 for none.
    """
    last = len(critique.steps) if first_error == -1 else first_error + 1
    paragraphs = split_rationale(critique.segments)
    while paragraphs and paragraphs[-1].paragraph > last:
        paragraphs.pop()
    return next((flaw for flaw in Flaw if flaw not in tolerated and _RULES[flaw](_Judged(critique, first_error), paragraphs)), None)


Paragraphs = Sequence[ParagraphCritique]


@dataclass(frozen=True)
class _Judged:
    """What the rules look at beside the paragraphs."""

    critique: Critique
    first_error: int


def _out_of_order(_: _Judged, paragraphs: Paragraphs) -> bool:
    return any(later.paragraph <= earlier.paragraph for earlier, later in itertools.pairwise(paragraphs))


def _solved_again(judged: _Judged, paragraphs: Paragraphs) -> bool:
    return any("\\boxed{" in _analysis(part) and "\\boxed" not in _step(judged.critique, part.paragraph) for part in paragraphs)


def _copied(judged: _Judged, paragraphs: Paragraphs) -> bool:
    source = set(_runs(_words("\n".join([judged.critique.problem, *judged.critique.steps])), COPY_WORDS))
    return any(_is_copy(_words(_analysis(part)), source) for part in paragraphs)


def _is_copy(words: Sequence[str], source: set[tuple[str, ...]]) -> bool:
    if len(words) < COPY_MIN_WORDS:
        return False
    copied = [False] * len(words)
    for start, run in enumerate(_runs(words, COPY_WORDS)):
        if run in source:
            copied[start : start + COPY_WORDS] = [True] * COPY_WORDS
    return sum(copied) >= COPY_SHARE * len(words)


def _silent_code(_: _Judged, paragraphs: Paragraphs) -> bool:
    """A block may only define what the next one uses: it is a paragraph's last output that must be there."""
    nothing = rationale.code_output_block("")
    outputs = [[segment.text for segment in part.segments if segment.kind is SegmentKind.OUTPUT] for part in paragraphs]
    return any(texts and texts[-1] == nothing for texts in outputs)


_OWN_WORD = re.compile(
    r"(?:^|[.!?:\n]|,\s+(?=so\b|thus\b|hence\b|therefore\b))\s*(?:(?:so|thus|hence|therefore|overall)\b,?\s+)?(?:the\s+|this\s+)?"
    r"(?:paragraph|step)(?:\s+(?P<number>\d{1,4}))?\s+(?:is|contains|has)\s+(?:(?:therefore|thus|indeed|actually|clearly|also)\s+)?"
    r"(?:(?P<right>correct|right|valid|accurate|no\s+(?:errors?|mistakes?))"
    r"|(?P<wrong>not\s+(?:correct|right|valid|accurate)|incorrect|wrong|invalid|inaccurate|an?\s+(?:error|mistake)))\s*(?=[.!\n]|$)",
    re.IGNORECASE,
)


def _contradiction(judged: _Judged, paragraphs: Paragraphs) -> bool:
    """Only a sentence that says nothing else counts (*So the paragraph is wrong.*), in words and not in code, and the last of them;
    what follows the analysis counts before the analysis."""
    for part in paragraphs:
        text = _written(part.segments, code=False)
        said = [match for match in _OWN_WORD.finditer(text) if match["number"] in (None, str(part.paragraph))]
        said = [match for match in said if match.start() > text.find(rationale.ANALYZE_END)] or said
        is_right = part.paragraph - 1 != judged.first_error
        if said and (said[-1]["right"] is not None) != is_right:
            return True
    return False


def _loop(_: _Judged, paragraphs: Paragraphs) -> bool:
    return any(_repeats(_words(_written(part.segments))) for part in paragraphs)


def _repeats(words: Sequence[str]) -> bool:
    """Whether a good part of the text is runs of words that were there before."""
    if len(words) < LOOP_MIN_WORDS:
        return False
    runs = _runs(words, LOOP_WORDS)
    return len(runs) - len(set(runs)) >= LOOP_SHARE * len(runs)


_RULES: dict[Flaw, Callable[[_Judged, Paragraphs], bool]] = {
    Flaw.OUT_OF_ORDER: _out_of_order,
    Flaw.SOLVED_AGAIN: _solved_again,
    Flaw.COPIED: _copied,
    Flaw.SILENT_CODE: _silent_code,
    Flaw.CONTRADICTION: _contradiction,
    Flaw.LOOP: _loop,
}


def _step(critique: Critique, number: int) -> str:
    return critique.steps[number - 1] if 1 <= number <= len(critique.steps) else ""


def _written(segments: Sequence[Segment], *, code: bool = True) -> str:
    """What the model wrote, without the outputs, and without its code if that is not wanted."""
    left_out = {SegmentKind.OUTPUT} if code else {SegmentKind.OUTPUT, SegmentKind.CODE}
    return "".join("\n" if segment.kind in left_out else segment.text for segment in segments)


def _analysis(part: ParagraphCritique) -> str:
    return _written(part.part("analyze") or ())


def _words(text: str) -> list[str]:
    return text.lower().split()


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
