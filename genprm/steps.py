"""Step forcing and splitting (method: section 3.2.1 of the paper).

The policy's turn is pre-filled with ``Step 1:``, so a solution is a sequence of ``Step k: ...`` blocks. Models that begin so often go
on in Markdown (``**Step 2:**``, ``### Step 3 (Check):``), so a marker is read in all the forms that `marker` names. Blank lines
are no boundaries between steps: they cut below the level of a step. docs/own-data.md states the rule for users.

`join_steps` is the inverse of `split_steps` for any non-empty steps without space around them. A line that would be read as the next
marker, and an opening code fence that its step never closes, get a backslash, which `split_steps` removes; ordinary steps have neither.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_STEP_PREFILL = "Step 1:"
STEP_TAG = "ки"
"""The mark that the Math-Shepherd data set has after each step."""

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS = {word: value for value, word in enumerate(_WORDS, start=1)}
_CHINESE_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")}
_CLOSING = {"(": ")", "[": "]", "（": "）", "【": "】"}
_HEAD = re.compile(
    rf"""
    (?:(?:[-*+•]|\d{{1,3}}[.)])[ \t]++)?+                       # an item of a list
    (?P<heading>\#{{1,6}}[ \t]*+)?+
    (?:(?P<emphasis>\*{{1,3}}|_{{1,3}}|\\(?:textbf|textit|emph|underline|paragraph\*?|(?:sub){{0,2}}section\*?)\{{)[ \t]*+)?+
    (?P<bracket>[\[(（【])?+
    (?: step[ \t]*+(?:\#[ \t]*+)?+(?P<number>\d{{1,6}}|{"|".join(_WORDS)})(?![0-9A-Za-z])
      | 步骤[ \t]*+(?P<chinese>\d{{1,6}}|[一二三四五六七八九十]{{1,3}})
      | 第[ \t]*+(?P<ordinal>\d{{1,6}}|[一二三四五六七八九十]{{1,3}})[ \t]*+步 )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TAIL = re.compile(
    r"""
    [ \t]*+ (?:[(（](?P<title>[^()（）]{1,80}+)[)）][ \t]*+)?+
    (?: [:：] | [.。、)）](?!\w) | [-–—]{1,3}+(?=[ \t]) | [\r]?\Z )
    """,
    re.VERBOSE,
)
_MAY_HAVE_MARKER = re.compile(r"step|步", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*+(?:(`{3,}+)[^`]*|(~{3,}+).*)\Z", re.DOTALL)
_FENCE_CLOSE = re.compile(r"[ \t]*+(`{3,}+|~{3,}+)\s*+\Z")
_TAGS = re.compile(rf"(?:(?:^|\s){STEP_TAG})+\Z")
_ESCAPED_TAG = re.compile(rf"(?:(?<=\s)|^)\\+(?={STEP_TAG}\Z)")


@dataclass(frozen=True, kw_only=True)
class StepSplit:
    """The steps of a text, and what was left out or joined for its form.

    ``preamble`` is the text before the first marker, which is dropped. ``num_empty`` markers had no text after them, ``num_repeated``
    stood twice, ``num_unordered`` did not count on from the one before, so that their text belongs to that step. Without any marker
    the text is one step and ``num_markers`` is 0.
    """

    steps: tuple[str, ...]
    num_markers: int
    preamble: str = ""
    num_empty: int = 0
    num_repeated: int = 0
    num_unordered: int = 0


@dataclass(frozen=True)
class Marker:
    """A step marker at the beginning of a line: its number, and the line without it (a title stays, emphasis around it goes)."""

    number: int
    rest: str


def split_steps(text: str) -> list[str]:
    """The steps of a solution, without their markers.

    Only markers at the beginning of a line, outside code fences, that count on from the one before (1, 2, 3, ...) are boundaries, so a
    step that quotes "Step 1:" stays whole. Text before the first marker is dropped, and so are steps without text. Text without a
    marker is one step (empty text: none).

    >>> split_steps("Step 1: add.\\n**Step 2 (Check):** done.")
    ['add.', 'Check: done.']
    """
    return list(read_steps(text).steps)


def read_steps(text: str) -> StepSplit:
    """`split_steps` with its counts."""
    blocks: list[list[str]] = [[]]
    num_repeated = num_unordered = 0
    if _MAY_HAVE_MARKER.search(text):
        lines = text.split("\n")
        fences = _Fences(lines)
        number = 0  # of the step that the lines belong to
        index = 0
        while index < len(lines):
            line = lines[index]
            while found := marker(line):
                if found.number == number + 1 or (found.number == 0 and len(blocks) == 1):
                    number = found.number
                    blocks.append([])
                elif found.number == number and len(blocks) > 1 and not blocks[-1]:
                    num_repeated += 1
                else:
                    num_unordered += 1
                    break
                line = found.rest
            close = fences.close(index, line)
            if close is not None:
                blocks[-1] += [line, *lines[index + 1 : close + 1]]
                index = close
            elif blocks[-1] or line.strip():
                blocks[-1].append(_unescaped(line))
            index += 1
    if len(blocks) == 1:
        whole = text.strip()
        return StepSplit(steps=(whole,) if whole else (), num_markers=0, num_unordered=num_unordered)
    steps = [_without_tag("\n".join(block).strip()) for block in blocks[1:]]
    return StepSplit(
        steps=tuple(step for step in steps if step),
        num_markers=len(steps),
        preamble="\n".join(blocks[0]).strip(),
        num_empty=sum(not step for step in steps),
        num_repeated=num_repeated,
        num_unordered=num_unordered,
    )


def strip_markers(steps: Sequence[str]) -> list[str]:
    """The items of a list of steps without the markers that some of them begin with, where these count on from one another.

    The number of items stays the same: one that is a marker only becomes empty.
    """
    found: list[str] = []
    number: int | None = None
    for step in steps:
        line, newline, others = step.partition("\n")
        head = marker(line)
        if head is not None and (head.number == number or (number is None and head.number in (0, 1))):
            number = head.number + 1
            step = head.rest + newline + others
        found.append(_without_tag(step.strip()))
    return found


def split_paragraphs(text: str) -> list[str]:
    """The paragraphs of a text: cut at blank lines, but not inside a code fence or a displayed formula.

    A paragraph that ends in a colon and the one that it introduces are one, and a displayed formula belongs to what stands before it.
    """
    lines = text.split("\n")
    fences = _Fences(lines)
    blocks: list[list[str]] = []
    is_open = False  # whether the next line belongs to the last block whatever stands between
    blank = True
    brackets = dollars = 0
    index = 0
    while index < len(lines):
        close = fences.close(index, lines[index])
        taken = lines[index : index + 1] if close is None else lines[index : close + 1]
        first = taken[0].strip()
        if not first:
            blank = True
            if blocks and is_open:
                blocks[-1].append("")
        else:
            if blank and blocks and (is_open or blocks[-1][-1].rstrip().endswith((":", "：")) or first.startswith(("\\[", "$$"))):
                if blocks[-1][-1]:
                    blocks[-1].append("")
            elif blank:
                blocks.append([])
            blank = False
            blocks[-1] += taken
            if close is None:
                brackets = max(0, brackets + first.count("\\[") - first.count("\\]"))
                dollars ^= first.count("$$") & 1
            is_open = bool(brackets or dollars)
        index = index + 1 if close is None else close + 1
    return ["\n".join(block).strip() for block in blocks]


def join_steps(steps: Sequence[str]) -> str:
    """The text whose ``split_steps`` is ``steps``: ``Step 1: ...\\nStep 2: ...``."""
    return "\n".join(f"Step {number}: {_escaped(step, number)}" for number, step in enumerate(steps, start=1))


def prefix_after(steps: Sequence[str]) -> str:
    """The assistant prefix from which a completer continues after ``steps``; it ends in ``Step {t+1}:`` (section 3.2.1)."""
    next_marker = f"Step {len(steps) + 1}:"
    return f"{join_steps(steps)}\n{next_marker}" if steps else next_marker


def marker(line: str) -> Marker | None:
    """The step marker with which a line begins, None without one.

    ``Step 2:``, ``STEP 2.``, ``Step 2)``, ``Step 2 - ``, ``[Step 2]``, ``Step two:``, ``Step 2 (Title):``, ``步骤2：``, ``第二步，``,
    and ``Step 2`` alone on its line; each also as a heading (``## Step 2``), as an item (``- Step 2:``) and in bold or other emphasis,
    which closes after the number, the colon or a title.

    >>> marker("### **Step 2: Simplify**")
    Marker(number=2, rest=' Simplify')
    """
    line = line.lstrip(" \t")
    head = _HEAD.match(line)
    if head is None:
        return None
    tail = line[head.end() :]
    is_marker = head["heading"] is not None
    if head["bracket"] is not None:
        if not tail.startswith(_CLOSING[head["bracket"]]):
            return None
        tail, is_marker = tail[1:], True
    if head["emphasis"] is not None and (end := _end_of_emphasis(tail, head["emphasis"])) is not None:
        inside, outside = tail[: end[0]], tail[end[1] :]
        is_marker = is_marker or not inside.strip() or not outside.strip() or outside.lstrip().startswith((":", "："))
        tail = inside + outside
    if mark := _TAIL.match(tail):
        tail = tail[mark.end() :]
        if mark["title"] is not None:
            tail = f"{mark['title'].strip()}: {tail.strip()}" if tail.strip() else mark["title"].strip()
    elif head["ordinal"] is not None and tail.startswith(("，", ",")):
        tail = tail[1:]
    elif not is_marker:
        return None
    return Marker(_value(head["number"] or head["chinese"] or head["ordinal"]), tail)


def _end_of_emphasis(text: str, opening: str) -> tuple[int, int] | None:
    """Where the mark stands that closes ``opening``; None if it is not in this line."""
    if opening.startswith("\\"):
        depth = 1
        for index, char in enumerate(text):
            depth += (char == "{") - (char == "}")
            if depth == 0:
                return index, index + 1
        return None
    found = re.search(rf"(?<!\s){re.escape(opening)}(?![\w*])", text)
    return None if found is None else found.span()


def _value(digits: str) -> int:
    if digits.isdecimal():
        return int(digits)
    if digits.lower() in _NUMBERS:
        return _NUMBERS[digits.lower()]
    tens, ten, ones = digits.rpartition("十")
    if len(tens) > 1 or len(ones) > 1 or "十" in tens:
        return -1
    return (_CHINESE_DIGITS[tens] if tens else 1) * 10 * bool(ten) + (_CHINESE_DIGITS[ones] if ones else 0)


class _Fences:
    """Where the code fences of some lines close; one that never closes is no fence."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._closing = [
            (index, found.group(1))
            for index, line in enumerate(lines)
            if ("```" in line or "~~~" in line) and (found := _FENCE_CLOSE.match(line))
        ]
        self._never: dict[str, int] = {}  # from this length on, no fence of this character closes any more

    def close(self, index: int, line: str) -> int | None:
        """The index of the line that closes the fence which ``line``, the text of line ``index``, opens; else None."""
        mark = fence_of(line)
        if mark is None or len(mark) >= self._never.get(mark[0], len(mark) + 1):
            return None
        for position in range(bisect_right(self._closing, index, key=lambda closing: closing[0]), len(self._closing)):
            closing = self._closing[position]
            if closing[1].startswith(mark):
                return closing[0]
        self._never[mark[0]] = len(mark)
        return None


def fence_of(line: str) -> str | None:
    """The characters of the code fence that a line opens (or closes), None where it is none."""
    if "```" not in line and "~~~" not in line:
        return None
    found = _FENCE.match(line)
    return None if found is None else found.group(1) or found.group(2)


def _escaped(step: str, number: int) -> str:
    if not ("```" in step or "~~~" in step or STEP_TAG in step or _MAY_HAVE_MARKER.search(step)):
        return step
    tagged = re.search(rf"(?:^|\s)\\*{STEP_TAG}\Z", step)
    if tagged:
        step = step[: -len(STEP_TAG)] + "\\" + STEP_TAG
    lines = step.split("\n")
    fences = _Fences(lines)
    found: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        close = fences.close(index, line)
        if close is not None:
            found += lines[index : close + 1]
            index = close + 1
            continue
        head = marker(line)
        is_next = head is not None and (head.number == number + 1 or (index == 0 and head.number == number))
        if is_next or fence_of(line) is not None or _is_escaped(line):
            indent = len(line) - len(line.lstrip(" \t"))
            line = line[:indent] + "\\" + line[indent:]
        found.append(line)
        index += 1
    return "\n".join(found)


def _is_escaped(line: str) -> bool:
    """Whether backslashes stand before a marker (which may begin with one itself) or a code fence."""
    line = line.lstrip(" \t")
    num_backslashes = len(line) - len(line.lstrip("\\"))
    begins = [start for start in (num_backslashes - 1, num_backslashes) if start >= 1]
    return any(marker(line[start:]) is not None or fence_of(line[start:]) is not None for start in begins)


def _unescaped(line: str) -> str:
    if "\\" not in line or not _is_escaped(line):
        return line
    indent = len(line) - len(line.lstrip(" \t"))
    return line[:indent] + line[indent + 1 :]


def _without_tag(step: str) -> str:
    """The step without Math-Shepherd's tags at its end; a tag that `join_steps` escaped stays."""
    if not step.endswith(STEP_TAG):
        return step
    escaped = _ESCAPED_TAG.search(step)
    return step[: escaped.start()] + step[escaped.start() + 1 :] if escaped else _TAGS.sub("", step).rstrip()
