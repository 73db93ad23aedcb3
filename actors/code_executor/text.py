"""From what code printed to what the model sees: bounded, and unable to pose as the model's own words.

Output stands inside the assistant's turn. Text there that looks like a chat template's token would end the turn, like a fence or
a tag would end the block, like a boxed word would be a verdict. Such marks are broken by a space, which a reader still understands.
"""

from __future__ import annotations

import re
import unicodedata

CUT = "\n... (output cut)"
TIMED_OUT = "Error: timed out after {seconds:g} s"
KILLED = "Error: the process died"
TOO_MUCH_OUTPUT = "Error: too much output"

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)
_TAGS = "analyze|verify|output|paragraph|think|tool|im_|s>|sop|bos|eos|pad|unk|mask|start_of|end_of|begin|end|<sys|image"
_BRACKETS = r"(?i:INST|SYS|Code Output)|[A-Z_]{3,40}\]|\|"
_GAP = r"\s{0,8}/?\s{0,8}"
"""What may stand between a bracket and its word; bounded, or a long gap would take quadratic time."""
_MARKS = (
    (re.compile(r"`{3,}|~{3,}"), lambda match: " ".join(match.group())),
    (re.compile(rf"<(?=[|\uff5c]|{_GAP}(?:{_TAGS}))", re.IGNORECASE), lambda _: "< "),
    (re.compile(r"[|\uff5c](?=>)"), lambda match: f"{match.group()} "),
    (re.compile(rf"\[(?={_GAP}(?:{_BRACKETS}))"), lambda _: "[ "),
    (re.compile(r"\\(?=\s{0,8}boxed)"), lambda _: "\\ "),
)


def clean(text: str) -> str:
    """Printed text without control, bidirectional and invisible characters, its marks broken."""
    text = unicodedata.normalize("NFC", text)  # as tokenizers do, to whom U+1FEF is then a backtick
    text = _INVISIBLE.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    for pattern, replacement in _MARKS:
        text = pattern.sub(replacement, text)
    return text


def shown(printed: bytes, *, cut: bool, max_chars: int) -> str:
    """At most ``max_chars`` of what was printed, cleaned, and a line that says so where more was printed (``cut``)."""
    text = printed.decode("utf-8", "replace")
    if len(text) > max_chars:
        text, cut = text[:max_chars], True
    return clean(text).rstrip() + (CUT if cut else "")


def with_error(text: str, error: str) -> str:
    """What was printed, and below it the error."""
    return f"{text}\n{error}" if text else error
