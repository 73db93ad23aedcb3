"""The answer that a solution states: in a box, or in words."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST_ANSWER = 2_000
"""Characters; a longer "answer" is no answer and is not worth a parser's time."""
TAIL = 10_000
"""Characters at the end of a text in which an answer in words is looked for."""

MOST_BOXES = 50
"""Boxes from the end that are looked at."""

_BOX = re.compile(r"\\(?:boxed|fbox)")
_BARE_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?!\w)", re.ASCII)
"""After a ``\\boxed`` without braces, as some write it."""
_BETWEEN_BOXES = re.compile(r"[\s$*]*(?:,|;|、|\\text\{ *(?:and|or) *\}|and|or|,\s*(?:and|or))[\s$*]*")
"""What stands between the boxes of one answer."""
_PHRASE = re.compile(r"answer\s*\**\s*(?:is|are|:|：)|答案\s*(?:是|为|為|:|：)", re.IGNORECASE)
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_MATHEMATICS = re.compile(
    r"\\\[(?P<display>.+?)\\\]|\$\$(?P<dollars>.+?)\$\$|\\\((?P<inline>.+?)\\\)"
    r"|(?P<list>\$(?:\\.|[^$\\])+\$(?:\s*(?:,|;|and|or|,\s*(?:and|or))\s*\$(?:\\.|[^$\\])+\$)*)",
    re.DOTALL,
)
_BOLD = re.compile(r"\*\*(\S.*?)\*\*")
_SENTENCE_END = re.compile(r"[.。](?=\s+\S|\s*$)|\n")
_HASHES = re.compile(r"\s*####\s*(?!step\b)(\S.*?)\s*", re.IGNORECASE)


def extract_answer(text: str) -> str | None:
    """The answer that a solution states: its last box, else its last "answer is ...", ``<answer>``, or "#### ..." at the end; None
    without one."""
    return next(iter(stated_answers(text)), None)


def stated_answers(text: str) -> tuple[str, ...]:
    """`extract_answer`'s, and behind it the last box alone where several boxes are one answer: references are often made of that."""
    boxes = _last_boxes(text)
    if boxes:
        together = ", ".join(boxes)
        return tuple(dict.fromkeys((together, boxes[-1]))) if len(together) <= LONGEST_ANSWER else (boxes[-1],)
    for candidate in _in_words(text[-TAIL:]):
        answer = candidate.strip().rstrip(".。").strip()
        if answer and len(answer) <= LONGEST_ANSWER:
            return (answer,)
    return ()


def _in_words(text: str) -> Iterator[str]:
    tags = _TAG.findall(text)
    if tags:
        yield tags[-1]
    for phrase in reversed(list(_PHRASE.finditer(text))):
        yield _stated(text[phrase.end() :])
    last_line = text.rstrip().rpartition("\n")[2]
    hashes = _HASHES.fullmatch(last_line)
    if hashes:
        yield hashes[1].strip("$")


def _stated(rest: str) -> str:
    """What follows "the answer is": mathematics, bold words, or the words up to the end of the sentence."""
    rest = rest.lstrip(" \t\n:：")
    bold = _BOLD.match(rest)
    if bold:
        return bold[1]
    rest = rest.lstrip(" \t\n:：*")
    found = _MATHEMATICS.match(rest)
    if found:
        group = found.lastgroup or "list"
        inside = found[group]
        return inside[1:-1] if group == "list" and len(re.findall(r"(?<!\\)\$", inside)) == 2 else inside
    end = _SENTENCE_END.search(rest)
    return (rest if end is None else rest[: end.start()]).strip().strip("$").strip()


def extract_boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}`` (or ``\\fbox``) with balanced braces that is not empty, or ``\\boxed 9``; of several boxes
    with nothing but commas and words like "and" between them all contents, by commas. None if there is none."""
    return ", ".join(_last_boxes(text)) or None


def _last_boxes(text: str) -> list[str]:
    """Contents of the boxes of the last answer, in order."""
    contents: list[str] = []
    begin_after = None
    for match in reversed(list(_BOX.finditer(text))[-MOST_BOXES:]):
        found = _braced(text, match.end())
        if found is None:
            if not contents and _is_open(text, match.end()):
                return []  # the last one was never closed
            continue
        if not found[0].strip():
            continue
        content, end = found
        if begin_after is not None:
            if end > begin_after:  # the box around the last one
                continue
            between = _BETWEEN_BOXES.fullmatch(text, end, begin_after)
            if between is None:
                break
        contents.append(content.strip())
        begin_after = match.start()
    return list(dict.fromkeys(reversed(contents)))


def _braced(text: str, position: int) -> tuple[str, int] | None:
    """What is in the braces that begin here, and where they end."""
    while position < len(text) and text[position] in " \t\n":
        position += 1
    if position >= len(text) or text[position] != "{":
        bare = _BARE_NUMBER.match(text, position)
        return (bare.group(), bare.end()) if bare else None
    depth = 0
    for index in range(position, min(len(text), position + LONGEST_ANSWER + 2)):
        if text[index - 1] == "\\" and text[index - 2] != "\\":
            continue
        if text[index] == "{":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return text[position + 1 : index], index + 1
    return None


def _is_open(text: str, position: int) -> bool:
    """Whether a brace begins here."""
    return text[position : position + 100].lstrip().startswith("{")
