"""What a critique looks like: prompts, tags, pre-fills and their parsing. The only home of the wire format.

Two forms of the same judgement (method: sections 3.1.1 and 3.2.3 of the paper):

- the *rationale model* (stage 4) sees the whole solution as numbered paragraphs and writes one long turn, paragraph by
  paragraph, then the index of the earliest wrong one;
- *GenPRM* (stages 6 and 7) sees one step per user turn and answers each with one assistant turn. ``SYSTEM``,
  ``analyze_prefill``, ``VERIFY_PREFILL``, ``OUTPUT_PREFILL`` and ``code_output_block`` are the wire format of the
  published GenPRM checkpoints and match it to the byte.

Every parser here takes text from a model: arbitrary text never raises, and a missing thing is None.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from genprm.records import Segment, SegmentKind

# --- the wire format of the published checkpoints (stage 7); do not touch a byte ---
SYSTEM = "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."
VERIFY_PREFILL = "<verify>\nLet's use python code to find any potential error:\n```python\n"
OUTPUT_PREFILL = "<output>\n**Judgement**: $\\boxed"
ANALYZE_END = "</analyze>"
VERIFY_END = "</verify>"
OUTPUT_END = "</output>"
CODE_FENCE = "```python\n"
CODE_OUTPUT = "[Code Output]\n\n```\n"
TAGS = ("<think>", "</think>", "<analyze>", ANALYZE_END, "<verify>", VERIFY_END, "<output>", OUTPUT_END, "```python", "[Code Output]")
"""A tokenizer may have tokens of their own for these; they are the only ones that an assistant's turn may contain."""
FENCE_END = "```\n"

# --- the rationale model's turn (stage 4; wording ours where the paper leaves it free) ---
THINK_END = "</think>"
RATIONALE_PREFILL = "<think>\n### Paragraph 1\n<analyze>\n"
FINAL_INDEX_BRIDGE = "\n\nThe index of the earliest wrong paragraph is $\\boxed"
FINAL_INDEX_STOP = "}"
RATIONALE_INSTRUCTIONS = (
    "Below are a math problem and a solution whose paragraphs are numbered and tagged. Verify the paragraphs one after the "
    "other. Give each a heading `### Paragraph {i}` and two parts: first `<analyze>...</analyze>`, where you reason in words "
    "about whether the paragraph is correct and follows from the problem and the paragraphs before it; then "
    "`<verify>...</verify>`, where you write a fenced python block that prints what it checks. The block will be run and its "
    "output given to you; if the output contradicts your analysis, reconsider, with more code if need be. At the end answer "
    "with `$\\boxed{index}$`, the 1-based index of the earliest wrong paragraph, or -1 if all are correct."
)


class Verdict(enum.StrEnum):
    """What a judgement says; UNREADABLE is its own outcome, never a half."""

    YES = "yes"
    NO = "no"
    UNREADABLE = "unreadable"


def analyze_prefill(paragraph: int) -> str:
    """Pre-fill of a GenPRM turn for 1-based ``paragraph``; mind the space at the end."""
    return f"<analyze>\nLet's analyze the Paragraph {paragraph} step by step: "


def code_output_block(output: str) -> str:
    """What is appended after a code block has run."""
    return f"{CODE_OUTPUT}{output}\n```\n"


def first_user_turn(problem: str, step: str) -> str:
    """The first user turn of a GenPRM conversation; later turns are the bare step (stage 6)."""
    return f"{problem}\n{step}"


def user_turns(problem: str, steps: Sequence[str]) -> list[str]:
    """One user turn per step. The step texts carry no ``Step k:`` marker, in training and inference alike (ours)."""
    return [first_user_turn(problem, step) if index == 0 else step for index, step in enumerate(steps)]


def rationale_prompt(problem: str, steps: Sequence[str], instructions: str = RATIONALE_INSTRUCTIONS) -> str:
    """The rationale model's user turn: instructions, problem, numbered paragraphs."""
    paragraphs = "\n".join(f"<paragraph_{number}>\n{step}\n</paragraph_{number}>" for number, step in enumerate(steps, start=1))
    return f"{instructions}\n\n[Problem]\n{problem}\n\n[Solution]\n{paragraphs}"


_PYTHON_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})[ \t]*\{?\.?(?:python3?|py)(?![\w+-])[^`\n]*\n", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A closed block of Python: its code as Python gets it, the line that should close it, and where code and closing fence begin and end
    in the text."""

    code: str
    closing: str
    begin: int
    code_end: int
    end: int


def closed_block(text: str, position: int = 0) -> Block | None:
    """The first closed Python block of a text (CommonMark's fences: capitals, attributes, indents, longer ones), None if there is none.

    The closing fence may also be the end of the text, or stand before a tag (`` ```</verify> ``).
    """
    opening = _PYTHON_FENCE.search(text, position)
    if opening is None:
        return None
    indent, fence = opening[1], opening[2]
    end = re.compile(rf"^ {{0,3}}{fence[0]}{{{len(fence)},}}(?:[ \t]*\r?(?:\n|\Z)|[ \t]*(?=</))", re.MULTILINE)
    closing = end.search(text, opening.end())
    if closing is None:
        return None
    code = text[opening.end() : closing.start()].replace("\r\n", "\n")
    if indent:
        code = re.sub(rf"^ {{1,{len(indent)}}}", "", code, flags=re.MULTILINE)
    return Block(code=code, closing=f"{fence}\n", begin=opening.end(), code_end=closing.start(), end=closing.end())


def code_blocks(text: str) -> list[str]:
    """The code of every closed Python block of ``text``, in order."""
    blocks: list[str] = []
    position = 0
    while block := closed_block(text, position):
        blocks.append(block.code)
        position = block.end
    return blocks


MOST_BOXES, LONGEST_VERDICT = 50, 100
"""Boxes from the end, and characters in one, in which a verdict is looked for."""
_BOX = re.compile(r"\\boxed\s*\{")
_OPEN = r"(?:\\[A-Za-z]+\s*\{|\{|\\[ ,;!]|[\s$*_\"'`“‘])*"
_CLOSE = r"(?:\\[ ,;!]|[\s$*_\"'`”’.!])*"
_ALONE = re.compile(rf"{_OPEN}(yes|no){_CLOSE}(?:\}}|\Z)", re.IGNORECASE)
_MENTIONED = re.compile(r"(?<!\w)(?:yes|no)(?!\w)", re.IGNORECASE)


def read_verdict(text: str) -> Verdict:
    """What the last box of a GenPRM turn that has the word Yes or No says; earlier ones may be quotes of the analysis.

    The word must stand alone in the box, as GenPRM's own pattern has it, but for type styles and marks: "No error" and "Yes/No" are
    unreadable.
    """
    for box in reversed(list(_BOX.finditer(text))[-MOST_BOXES:]):
        inside = text[box.end() : box.end() + LONGEST_VERDICT]
        alone = _ALONE.match(inside)
        if alone:
            return Verdict.YES if alone[1].lower() == "yes" else Verdict.NO
        if _MENTIONED.search(inside.partition("}")[0]):
            break
    return Verdict.UNREADABLE


_INDEX = re.compile(r"^\s*\{\s*([-−–]?\s*\d{1,4})\s*\}", re.ASCII)


def read_final_index(continuation: str, num_steps: int) -> int | None:
    """The 0-based first error (-1: none) that a continuation of ``FINAL_INDEX_BRIDGE`` names.

    None where it names no integer, or one that is no paragraph of the solution (paragraphs are 1-based in the text).
    """
    match = _INDEX.match(continuation)
    if match is None:
        return None
    index = int(re.sub("[−–]", "-", match.group(1)).replace(" ", ""))
    if index == -1:
        return -1
    return index - 1 if 1 <= index <= num_steps else None


def read_analysis(turn: str) -> str | None:
    """The text inside the first ``<analyze>...</analyze>`` of a turn, which the critic hands to the policy."""
    _, opened, rest = turn.partition("<analyze>")
    analysis, closed, _ = rest.partition(ANALYZE_END)
    return analysis.strip() if opened and closed else None


_HEADING = re.compile(
    r"^#{1,6}[ \t]*(?:\*\*)?Paragraph[ \t]+\{?(\d{1,4})\}?(?:\*\*)?[ \t]{0,9}[:.：]?(?:\*\*)?[ \t]{0,9}$",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class ParagraphCritique:
    """One paragraph of a rationale: 1-based ``paragraph`` and the segments under its heading, tags stripped of nothing."""

    paragraph: int
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)

    def part(self, tag: str) -> tuple[Segment, ...] | None:
        """The segments between ``<tag>`` and ``</tag>``, cut at the tags; None where the part is not complete."""
        start = _find_outside_outputs(self.segments, f"<{tag}>", 0)
        if start is None:
            return None
        end = _find_outside_outputs(self.segments, f"</{tag}>", start + len(tag) + 2)
        if end is None:
            return None
        return cut_segments(self.segments, start + len(tag) + 2, end)


def cut_segments(segments: Sequence[Segment], start: int, end: int) -> tuple[Segment, ...]:
    """The part of ``segments`` between two character offsets of their concatenation; empty pieces are left out."""
    pieces: list[Segment] = []
    offset = 0
    for segment in segments:
        low, high = max(start - offset, 0), min(end - offset, len(segment.text))
        if low < high:
            pieces.append(Segment(kind=segment.kind, text=segment.text[low:high]))
        offset += len(segment.text)
    return tuple(pieces)


def _find_outside_outputs(segments: Sequence[Segment], needle: str, begin: int) -> int | None:
    """Offset of ``needle`` in what the model wrote: text that came from code output can close no tag."""
    masked = "".join("\0" * len(segment.text) if segment.kind is SegmentKind.OUTPUT else segment.text for segment in segments)
    position = masked.find(needle, begin)
    return None if position < 0 else position


def split_rationale(segments: Sequence[Segment]) -> list[ParagraphCritique]:
    """Cut a rationale at its ``### Paragraph i`` headings; headings inside code output do not count."""
    masked = "".join("\0" * len(segment.text) if segment.kind is SegmentKind.OUTPUT else segment.text for segment in segments)
    think_end = masked.find(THINK_END)
    limit = len(masked) if think_end < 0 else think_end
    headings = list(_HEADING.finditer(masked, 0, limit))
    critiques = []
    for position, heading in enumerate(headings):
        end = headings[position + 1].start() if position + 1 < len(headings) else limit
        critiques.append(ParagraphCritique(paragraph=int(heading.group(1)), segments=cut_segments(segments, heading.end(), end)))
    return critiques
