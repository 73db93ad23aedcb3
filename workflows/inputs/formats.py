"""The rows of one file: JSON lines, JSON, CSV or Parquet, as (place, value); a broken row's value is a BrokenRow, not raised.

Rows are read one by one, Parquet by batches; only a JSON list is loaded whole.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from workflows.inputs.compression import SUFFIXES, BadFile, is_compressed, open_plain

LINES, JSON, CSV, TSV, PARQUET = "lines", "json", "csv", "tsv", "parquet"
FORMATS = {".jsonl": LINES, ".ndjson": LINES, ".json": JSON, ".csv": CSV, ".tsv": TSV, ".parquet": PARQUET, ".pq": PARQUET}
LONGEST_LINE_BYTES = 64 << 20
LARGEST_WHOLE_BYTES = 4 << 30
"""Of a JSON list or a compressed Parquet file, which must be loaded whole."""

_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
"""NaN and Infinity are no JSON; programs write them for values that are missing."""
_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
_CONTAINERS = ("data", "rows", "examples", "instances", "items", "records", "train", "test", "validation")

Rows = Iterator[tuple[str, Any]]


class BrokenRow(ValueError):
    """A row that can't be read: ``str()`` is the reason that is counted, ``detail`` says more."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.detail = detail

    def __str__(self) -> str:
        return str(self.args[0])


def format_of(file: Path) -> str | None:
    """By the name; None for a name that says nothing."""
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    if suffixes and suffixes[-1] in SUFFIXES:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def rows_of(file: Path) -> Rows:
    """The rows of a file. BadFile where it as a whole is of no use; one of compression.READ_ERRORS where it is damaged."""
    with open_plain(file) as stream:
        head = _head(stream)
    kind = PARQUET if head.startswith(b"PAR1") else format_of(file) or LINES
    if kind == PARQUET:
        yield from _parquet_rows(file)
        return
    _check_encoding(head)
    if kind in (CSV, TSV):
        yield from _csv_rows(file, head, kind)
    else:
        yield from _json_rows(file, kind)


def _head(stream: BinaryIO) -> bytes:
    head = b""
    while len(head) < 4096 and (more := stream.read(4096 - len(head))):
        head += more
    return head


def _check_encoding(head: bytes) -> None:
    name = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if name is not None:
        raise BadFile(f"its encoding is {name}; convert it to UTF-8, for example with iconv -f {name} -t UTF-8")
    if b"\0" in head[:4]:
        raise BadFile("its encoding seems to be UTF-16 or UTF-32 (there are zero bytes); convert it to UTF-8, for example with iconv")


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | BrokenRow]]:
    """The numbered lines that are not blank; of one that is too long only its beginning is read into memory at a time."""
    number = 0
    while line := stream.readline(LONGEST_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) == LONGEST_LINE_BYTES and not line.endswith(b"\n"):
            while (more := stream.readline(LONGEST_LINE_BYTES)) and not more.endswith(b"\n"):
                pass
            yield number, BrokenRow("line too long", f"over {LONGEST_LINE_BYTES} bytes")
        elif line.strip():
            yield number, line


def _parsed(data: bytes) -> Any:
    """The value of JSON text; BrokenRow, returned and not raised, where it is none."""
    try:
        return _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        return BrokenRow("not UTF-8", str(error))
    except (ValueError, RecursionError) as error:
        return BrokenRow("not JSON", str(error))


def _json_rows(file: Path, kind: str) -> Rows:
    """JSON lines, or one JSON value: recognized by the contents, since people name either .json, and lists .jsonl."""
    with open_plain(file) as stream:
        lines = _lines(stream)
        first = next((line for _, line in lines), b"")
        is_only = next(lines, None) is None
    value = first if isinstance(first, BrokenRow) else _parsed(first)
    if not first:
        return
    if is_only and not isinstance(value, BrokenRow):
        yield from _rows_of_value(value, kind)
        return
    may_be_whole = kind == JSON or isinstance(first, BrokenRow) or first.lstrip()[:1] == b"[" or first.strip() == b"{"
    if isinstance(value, BrokenRow) and may_be_whole:
        with open_plain(file) as stream:
            whole = _parsed(_whole(stream).removeprefix(b"\xef\xbb\xbf"))
        if not isinstance(whole, BrokenRow):
            yield from _rows_of_value(whole, kind)
            return
        if kind == JSON and not _has_row(file):
            raise BadFile(f"{whole} ({whole.detail}); give one list of rows, or a row on each line")
    with open_plain(file) as stream:
        for number, line in _lines(stream):
            yield f"line {number}", line if isinstance(line, BrokenRow) else _parsed(line)


def _whole(stream: BinaryIO) -> bytes:
    data = stream.read(LARGEST_WHOLE_BYTES + 1)
    if len(data) > LARGEST_WHOLE_BYTES:
        raise BadFile(f"over {LARGEST_WHOLE_BYTES >> 30} GiB that must be loaded whole; write JSON lines, or Parquet not compressed again")
    return data


def _has_row(file: Path) -> bool:
    """Whether one of the first lines is a JSON object by itself."""
    with open_plain(file) as stream:
        for number, line in _lines(stream):
            if isinstance(line, bytes) and isinstance(_parsed(line), dict):
                return True
            if number > 20:
                break
    return False


def _rows_of_value(value: Any, kind: str) -> Rows:
    """The rows of a JSON value: a list's items, those of the one list inside an object (``{"data": [...]}``), or the object itself."""
    if isinstance(value, dict):
        lists = [key for key, inner in value.items() if isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner)]
        lists = [key for key in lists if kind == JSON or (len(value) == 1 and key in _CONTAINERS)]
        lists = [key for key in lists if not all({"role", "content"} <= item.keys() for item in value[key])]
        if len(lists) > 1 and not any(isinstance(inner, str) and len(inner) > 200 for inner in value.values()):
            raise BadFile(f"an object with several lists of rows ({', '.join(map(repr, lists))[:200]}); give a file with one of them")
        value = value[lists[0]] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise BadFile("the JSON value is neither a list of rows nor an object")
    for number, row in enumerate(value, start=1):
        yield f"row {number}", row


def _csv_rows(file: Path, head: bytes, kind: str) -> Rows:
    csv.field_size_limit(LONGEST_LINE_BYTES)
    header_line = head.partition(b"\n")[0]
    delimiter = "\t" if kind == TSV else max(",;\t", key=lambda char: header_line.count(char.encode()))
    with io.TextIOWrapper(open_plain(file), encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(iter(lambda: text.readline(LONGEST_LINE_BYTES), ""), delimiter=delimiter)
        header: list[str] | None = None
        number = 0
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                if header is None:
                    raise BadFile(f"its header is not CSV ({error})") from error
                number += 1
                yield f"row {number}", BrokenRow("not CSV", str(error))
                continue
            if cells is None:
                return
            if not cells:
                continue
            if header is None:
                header = [name.strip() for name in cells]
                repeated = sorted({name for name in header if name and header.count(name) > 1})
                if repeated:
                    raise BadFile(f"its header has {repeated[0][:100]!r} twice; rename one of the columns")
                continue
            number += 1
            if len(cells) != len(header):
                yield f"row {number}", BrokenRow("not as many cells as the header", f"{len(cells)} cells, {len(header)} in the header")
            else:
                yield f"row {number}", {name: cell if cell != "" else None for name, cell in zip(header, cells, strict=True)}


def _parquet_rows(file: Path) -> Rows:
    number = 0
    source: Any = str(file)
    if is_compressed(file):
        with open_plain(file) as stream:
            source = pa.BufferReader(_whole(stream))
    with pq.ParquetFile(source) as table:
        for batch in table.iter_batches(batch_size=1000):
            for value in _values(batch):
                number += 1
                yield f"row {number}", value


def _values(batch: Any) -> list[Any]:
    """The rows of a batch as plain values; one that has none (bad UTF-8) is a BrokenRow."""
    try:
        return list(batch.to_pylist())
    except (ValueError, pa.ArrowException):
        values: list[Any] = []
        for index in range(batch.num_rows):
            try:
                values += batch.slice(index, 1).to_pylist()
            except (ValueError, pa.ArrowException) as error:
                values.append(BrokenRow("not readable", str(error)[:200]))
        return values
