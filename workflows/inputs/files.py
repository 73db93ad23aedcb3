"""Data files: rows of JSONL, JSON, Parquet or a hub data set, read one by one, every field checked where it is taken."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

LONGEST_TEXT = 100_000
"""Characters; more is no problem text and would only burst a model's context."""


def checked_file(path: str, setting: str) -> Path:
    """The path of a readable file; ValueError that names the setting otherwise."""
    file = Path(path)
    if not os.path.isfile(file):
        raise ValueError(f"{setting} = {path!r}: there is no such file; give the path of a .jsonl, .json or .parquet file")
    try:
        with file.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise ValueError(f"{setting} = {path!r}: can't be read ({error}); mend its rights") from error
    return file


def hub_dataset(path: str, setting: str) -> Any:
    """The data set that ``hf:NAME:SPLIT`` names (SPLIT is train where it is left out); ValueError if it can't be loaded."""
    import datasets

    name, _, split = path.removeprefix("hf:").partition(":")
    try:
        return datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the hub, its cache and its file formats each raise their own kinds
        raise ValueError(
            f"{setting} = {path!r}: can't be loaded ({type(error).__name__}: {str(error)[:200]}); check the name and that the hub can "
            "be reached, or give a file"
        ) from error


def file_fingerprint(path: str, setting: str) -> str:
    """Changes whenever the data do."""
    if path.startswith("hf:"):
        return str(hub_dataset(path, setting)._fingerprint)
    return hashlib.sha256(checked_file(path, setting).read_bytes()).hexdigest()[:32]


def read_file(path: str, setting: str) -> Iterator[tuple[str, Any]]:
    """(place, value) for every row of a data file; a broken line's value is a ValueError instance, not raised."""
    if path.startswith("hf:"):
        for number, row in enumerate(hub_dataset(path, setting), start=1):
            yield f"row {number}", row
        return
    file = checked_file(path, setting)
    if file.suffix == ".parquet":
        try:
            table = pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{setting} = {path!r}: not a Parquet file ({str(error)[:200]})") from error
        for number, row in enumerate(table.to_pylist(), start=1):
            yield f"row {number}", row
    elif file.suffix == ".json":
        try:
            rows = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{setting} = {path!r}: not JSON ({error})") from error
        if not isinstance(rows, list):
            raise ValueError(f"{setting} = {path!r}: a JSON file must hold one list of rows")
        for number, row in enumerate(rows, start=1):
            yield f"row {number}", row
    else:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                try:
                    yield f"line {number}", json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield f"line {number}", ValueError(str(error))


def encodable(text: str) -> str:
    """The text with a question mark for what is no Unicode (lone surrogates), so that it can be stored."""
    return text.encode("utf-8", "replace").decode()


def text_of(row: Mapping[str, Any], field: str) -> str:
    """A non-empty, encodable text of sane length; ValueError with the reason otherwise."""
    if field not in row or row[field] is None:
        raise ValueError(f"no {field}")
    value = row[field]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{field} is not text")
    if not value.strip():
        raise ValueError(f"empty {field}")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{field} too long")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{field} is not valid Unicode") from error
    return value.strip()


def data_fingerprint(path: str) -> str:
    return file_fingerprint(path, "path")
