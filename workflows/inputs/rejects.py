"""From rows to records: a row that fails a check is rejected with its reason; if all are, that is an error which says what to set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from genprm.errors import UserError
from workflows.inputs.fields import FieldError, encodable, found, label_text, tuple_of
from workflows.inputs.files import read_rows
from workflows.inputs.ids import UniqueIds
from workflows.stage.parts import RejectedRow

Several = Callable[[dict[str, Any]], list[dict[str, Any]]]
LookedFor = Mapping[str, str | tuple[str, ...]]
"""The names of the fields that a reader needs, by the name of the setting that holds them."""
T = TypeVar("T")


def read_records(
    path: str,
    setting: str,
    *,
    parse: Callable[[Mapping[str, Any], int], T],
    looked_for: Callable[[Mapping[str, Any]], LookedFor],
    id_names: str | tuple[str, ...],
    limit: int | None,
    several: Several | None = None,
) -> Iterator[T | RejectedRow]:
    """For each row what ``parse(row, row number)`` makes of it, or a RejectedRow with the text of the ValueError that it raises.

    Ends after ``limit`` good rows. ValueError, at the end, where there was no good row: it has the most common reasons, the field names
    that were looked for in such rows (``looked_for(row)``) and those that are there. ``several(row)`` are the rows that a row stands
    for, where it holds several records.
    """
    section = setting.rpartition(".")[0]
    tally = _Tally()
    unique = UniqueIds()
    num_good = number = 0
    for number, (place, row) in enumerate(_apart(read_rows(path, setting), several), start=1):
        try:
            if isinstance(row, ValueError):
                raise row
            if not isinstance(row, dict):
                raise ValueError("not an object")
            record = parse(row, number)
        except ValueError as reason:
            own = label_text(found(row, id_names)[1], "id") if isinstance(row, dict) else None
            more = getattr(reason, "detail", "")
            detail = f"{path}, {place}" + (f": {more}" if more else "")
            rejected = RejectedRow(id=unique.of(own or place, number), reason=encodable(str(reason)), detail=encodable(detail[:1000]))
            tally.add(rejected.reason, reason, row)
            yield rejected
            continue
        yield record
        num_good += 1
        if num_good == limit:
            return
    if not num_good:
        raise UserError(encodable(f"{setting} = {path!r}: {tally.explanation(number, section, looked_for)}"))


def _apart(rows: Iterator[tuple[str, Any]], several: Several | None) -> Iterator[tuple[str, Any]]:
    for place, row in rows:
        if several is None or not isinstance(row, dict):
            yield place, row
            continue
        inner = several(row)
        for index, record in enumerate(inner, start=1):
            yield place if len(inner) == 1 else f"{place}, item {index}", record


def collected(rows: Iterator[T | RejectedRow]) -> tuple[list[T], list[RejectedRow], int]:
    """The records, the rejected rows, and the number of both."""
    records: list[T] = []
    rejects: list[RejectedRow] = []
    for row in rows:
        if isinstance(row, RejectedRow):
            rejects.append(row)
        else:
            records.append(row)
    return records, rejects, len(records) + len(rejects)


class _Tally:
    """Why rows were rejected, kept to say what to change if all of them are."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._settings: Counter[str] = Counter()
        self._rows: list[Mapping[str, Any]] = []

    def add(self, text: str, reason: ValueError, row: Any) -> None:
        self._reasons[text] += 1
        if isinstance(reason, FieldError) and reason.setting:
            self._settings[reason.setting] += 1
        if isinstance(row, dict) and len(self._rows) < 20:
            self._rows.append(row)

    def explanation(self, num_rows: int, section: str, looked_for: Callable[[Mapping[str, Any]], LookedFor]) -> str:
        if not num_rows:
            return "there is no row in it"
        reasons = ", ".join(f"{count} for {reason!r}" for reason, count in self._reasons.most_common(3))
        text = f"all {num_rows} rows were rejected: {reasons}."
        if not self._rows:
            return f"{text} No row is an object with named fields"
        wanted = looked_for(self._rows[0])
        dot = f"{section}." if section else ""
        text += " Looked for " + "; ".join(f"{dot}{name} = {' or '.join(tuple_of(names))}" for name, names in wanted.items())
        text += f". The rows have {', '.join(field_names(self._rows)) or 'no fields'}."
        if self._settings:
            names = " and ".join(dot + name for name, _ in self._settings.most_common(3))
            return f"{text} Set {names} to the name of the field that has it, a nested one by its path"
        return text


def field_names(rows: list[Mapping[str, Any]], most: int = 40) -> list[str]:
    """The names in some rows, in their order; inside objects and lists of objects as paths, one level deep."""
    names: dict[str, None] = {}
    for row in rows:
        for name, value in row.items():
            path = str(name)[:100]
            first = value[0] if isinstance(value, list | tuple) and value else None
            inner, prefix = (value, path) if isinstance(value, Mapping) else (first, f"{path}[0]")
            if isinstance(inner, Mapping) and inner:
                names.update((f"{prefix}.{str(key)[:100]}", None) for key in inner)
            else:
                names[path] = None
            if len(names) > most:
                return [*list(names)[:most], "..."]
    return list(names)
