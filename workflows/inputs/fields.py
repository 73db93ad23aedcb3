"""Values of a row, by name or path, checked: what is missing, text, numbers as text, integers, lists.

A field setting is a name, a path (``reward_model.ground_truth``, ``prompt[0].content``, ``messages[-1].content``), or several of
these, of which the first with a value counts. The text of the ValueError of a failed check is the reason that is counted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

LONGEST_TEXT = 100_000
"""Characters; more is no text of a problem or step and would only burst a model's context."""
LONGEST_LIST = 10_000
_PART = re.compile(r"(?:^|(?!\A)\.)([^.\[\]]+)|\[(-?\d{1,9})\]", re.ASCII)

T = TypeVar("T")


class FieldError(ValueError):
    """A value that is missing or not as it must be; ``setting`` is the name of the field setting that looked for it."""

    def __init__(self, reason: str, setting: str = "") -> None:
        super().__init__(reason)
        self.setting = setting


@lru_cache(maxsize=1024)
def path_parts(path: str) -> tuple[str | int, ...]:
    """``prompt[0].content`` as ``("prompt", 0, "content")``; ValueError for what is no path."""
    parts: list[str | int] = []
    position = 0
    while position < len(path):
        found = _PART.match(path, position)
        if found is None:
            break
        parts.append(found[1] if found[1] is not None else int(found[2]))
        position = found.end()
    if position < len(path) or not parts:
        raise ValueError(f"{path!r} is no name or path of a field; write it like name, name.inner or name[0].inner")
    return tuple(parts)


def _names(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    for name in (value,) if isinstance(value, str) else value:
        path_parts(name)
    if not value:
        raise ValueError("no field is named; give one or more names")
    return value


Names = Annotated[str | tuple[str, ...], AfterValidator(_names)]
"""One field name or path, or several of which the first with a value counts."""


def tuple_of(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def is_missing(value: Any) -> bool:
    """None, and NaN and Infinity, with which programs stand for None."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or (isinstance(value, Decimal) and not value.is_finite())


def is_blank(value: Any) -> bool:
    """Text without a word, as empty cells of a table become."""
    return isinstance(value, str) and not value.strip()


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The value at a name or path, None where there is none. Text on the way that is JSON is read as such, for CSV cells."""
    if path in row:
        return row[path]
    if "." not in path and "[" not in path:
        return None
    value: Any = row
    for part in path_parts(path):
        if isinstance(value, str):
            value = json_in(value)
        if isinstance(part, str):
            value = value.get(part) if isinstance(value, Mapping) else None
        else:
            value = value[part] if isinstance(value, list | tuple) and -len(value) <= part < len(value) else None
        if value is None:
            return None
    return value


def json_in(text: str) -> Any:
    """The list or object that a text is in JSON; the text itself where it is neither."""
    if not text.lstrip().startswith(("[", "{")) or len(text) > 100 * LONGEST_TEXT:
        return text
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return text


def found(row: Mapping[str, Any], names: str | tuple[str, ...]) -> tuple[str, Any]:
    """(name, value) of the first of the names that has a value; where none has, blank text if there is any, else None."""
    candidates = tuple_of(names)
    blank: tuple[str, Any] = (candidates[0], None)
    for name in candidates:
        value = value_at(row, name)
        if value is None or is_missing(value):
            continue
        if not is_blank(value):
            return name, value
        blank = blank if blank[1] is not None else (name, value)
    return blank


def read(row: Mapping[str, Any], names: str | tuple[str, ...], setting: str, check: Callable[[Any, str], T]) -> T:
    """The checked value of a field that must be there; FieldError otherwise. ``setting`` is the name of the setting with the names."""
    name, value = found(row, names)
    if value is None:
        raise FieldError(f"no {name}", setting)
    return _checked(value, name, setting, check)


def optional(row: Mapping[str, Any], names: str | tuple[str, ...], setting: str, check: Callable[[Any, str], T]) -> T | None:
    """The checked value of a field, None where it is missing or blank; FieldError for one that is wrong."""
    name, value = found(row, names)
    return None if value is None or is_blank(value) else _checked(value, name, setting, check)


def _checked(value: Any, name: str, setting: str, check: Callable[[Any, str], T]) -> T:
    try:
        return check(value, name)
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(str(error), setting) from error


def number_text(value: float | Decimal) -> str:
    """A number as one writes it: 27.0 is ``27``, 1e-05 is ``0.00001``, 1e16 is ``10000000000000000``. ValueError for NaN and Infinity."""
    if isinstance(value, int):
        return str(value)
    if is_missing(value):
        raise ValueError("not a finite number")
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if abs(number.adjusted()) > 400 or (isinstance(value, Decimal) and len(number.as_tuple().digits) > 400):
        raise ValueError("a number too long to be written out")
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def text_of(value: Any, name: str) -> str:
    """A non-empty text of sane length without space around it; numbers as `number_text`. ValueError with the reason otherwise."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            raise ValueError(f"empty {name}")
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"{name} too long")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{name} is not valid Unicode") from error
        return text
    if is_missing(value):
        raise ValueError(f"no {name}")
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            return number_text(value)
        except ValueError as error:
            raise ValueError(f"{name} is {error}") from error
    raise ValueError(f"{name} is not text")


def message_text(value: Any, name: str, role: str = "user") -> str:
    """A text, or of a chat (a list of messages) the content of its last message by ``role``; ValueError otherwise."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        inner = json_in(value)
        value = inner if is_chat(inner) else value
    if not isinstance(value, list | tuple):
        return text_of(value, name)
    if not is_chat(value):
        raise ValueError(f"{name} is not text")
    for message in reversed(value):
        if message_role(message) == role:
            return text_of(message_content(message), name)
    raise ValueError(f"{name} has no message by {role}")


def is_chat(value: Any) -> bool:
    """Whether it is a list of messages: ``role`` and ``content``, or ``from`` and ``value``."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_message, value))


def _is_message(item: Any) -> bool:
    return isinstance(item, Mapping) and ({"role", "content"} <= item.keys() or {"from", "value"} <= item.keys())


def message_role(message: Mapping[str, Any]) -> str:
    role = message["role"] if "role" in message else message["from"]
    return {"human": "user", "gpt": "assistant", "model": "assistant"}.get(role, role) if isinstance(role, str) else ""


def message_content(message: Mapping[str, Any]) -> Any:
    """The content of a message; parts of text are joined."""
    content = message["content"] if "content" in message else message["value"]
    if isinstance(content, list | tuple) and all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content):
        return "".join(part["text"] for part in content)
    return content


def integer_of(value: Any, name: str) -> int:
    """A whole number, also as a float or as text (``1``, ``1.0``, ``"1"``); ValueError otherwise, and for true and false."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,15}(?:\.0{1,15})?\s*", value, re.ASCII):
        return int(float(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float | Decimal) and not is_missing(value) and value == int(value):
        return int(value)
    raise ValueError(f"{name} is not an integer")


def list_of(value: Any, name: str) -> list[Any]:
    """A list, also as JSON text (CSV cells); ValueError otherwise."""
    if isinstance(value, str):
        value = json_in(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} is not a list")
    if len(value) > LONGEST_LIST:
        raise ValueError(f"{name} too long")
    return list(value)


def encodable(text: str) -> str:
    """The text with a question mark for what is no Unicode (lone surrogates), so that it can be stored."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def label_text(value: Any, name: str) -> str | None:
    """A short text of a scalar that only names something (an id, a level); None for anything else."""
    if isinstance(value, bool) or is_missing(value) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        text = value if isinstance(value, str) else number_text(value)
    except ValueError:
        return None
    return encodable(text).strip()[:200] or None
