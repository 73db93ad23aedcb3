"""Reference answers in the forms that data sets have: a text, a number, a list, GSM8K's last line, or a whole solution."""

from __future__ import annotations

import json
import re
from typing import Any

from genprm.grading import LONGEST_ANSWER, extract_answer, extract_boxed
from workflows.inputs.fields import is_missing, text_of

SHORT = 500
"""Characters; a longer text with a box is a solution in any case."""


def answer_of(value: Any, name: str) -> str:
    """The answer that a field's value gives; ValueError with the reason otherwise.

    - Of a list the one item, or all of them joined by ``, `` (also of a list that is text: ``["4"]``).
    - GSM8K: what stands after ``####`` in the last line.
    - A solution, which is more than its ``\\boxed{}``: the content of its last box. From a field that is called a solution and has no box:
      what follows "the answer is".
    """
    if isinstance(value, str) and value.lstrip().startswith('["'):
        value = _list_in(value)
    if isinstance(value, list | tuple):
        items = [item for item in value if not is_missing(item)]
        if not items:
            raise ValueError(f"empty {name}")
        return _bounded(", ".join(text_of(item, name) for item in items), name)
    text = text_of(value, name)
    last_line = text.rpartition("\n")[2]
    before, mark, after = last_line.rpartition("####")
    if mark and not before.endswith("#"):
        if not after.strip():
            raise ValueError(f"empty {name}")
        return _bounded(after.strip(), name)
    boxed = extract_boxed(text) if "\\boxed" in text else None
    if boxed is not None and not _is_box_alone(text):
        return _bounded(boxed, name)
    if name.rpartition(".")[2].lower().endswith("solution") and boxed is None:
        stated = extract_answer(text)
        if stated is None or "\\boxed" in stated:  # a box without content
            raise ValueError(f"no answer in {name}")
        return stated
    return _bounded(text, name)


def _list_in(text: str) -> Any:
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return inner if isinstance(inner, list) and all(isinstance(item, str) for item in inner) else text


def _is_box_alone(text: str) -> bool:
    """Whether a text has no words outside its boxes; several boxes may be joined by and, or."""
    if len(text) > SHORT:
        return False
    while (start := text.rfind("\\boxed")) >= 0:
        content = extract_boxed(text[start:])
        end = start + len("\\boxed") if content is None else text.index(content, start) + len(content)
        text = text[:start] + text[end:]
    return not set(re.findall(r"\w+", text)) - {"and", "or"}


def _bounded(answer: str, name: str) -> str:
    if len(answer) > LONGEST_ANSWER:
        raise ValueError(f"{name} too long")
    return answer
