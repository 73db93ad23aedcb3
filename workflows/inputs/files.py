"""Which files a path names, what their contents are identified by, and their rows."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.storage import is_remote, local_copy
from genprm.errors import UserError
from workflows.inputs.compression import READ_ERRORS, BadFile
from workflows.inputs.formats import format_of, rows_of

KINDS = ".jsonl, .json, .csv, .tsv or .parquet, also with .gz, .bz2, .xz or .zst"
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
"""Files that describe a data set and stand beside its data."""


def read_rows(path: str, setting: str) -> Iterator[tuple[str, Any]]:
    """(place, value) for every row of a file, a folder, a glob or ``hf:NAME:SPLIT``.

    A row that can't be read has a BrokenRow (a ValueError) as its value, which is not raised. ValueError that names the setting where a
    file as a whole can't be read. The place names the file where there are several.
    """
    if path.startswith("hf:"):
        yield from _hub_rows(path, setting)
        return
    files = data_files(path, setting)
    common = Path(os.path.commonpath([file.parent for file in files]))
    for file in files:
        prefix = "" if len(files) == 1 else f"{file.relative_to(common)}, "
        try:
            for place, row in rows_of(file):
                yield prefix + place, row
        except (BadFile, *READ_ERRORS) as error:
            name = "" if str(file) == path else f"{file}: "
            reason = str(error) if isinstance(error, BadFile) else f"the file is damaged or can't be read ({str(error)[:200]})"
            raise UserError(f"{setting} = {path!r}: {name}{reason}") from error


def data_files(path: str, setting: str) -> list[Path]:
    """The files of a path, in the order of their names; a folder's with all that is inside it, but no hidden or describing ones."""
    if is_remote(path):
        try:
            path = str(local_copy(path))
        except FileNotFoundError as error:
            raise UserError(
                f"{setting} = {path!r}: there is no such file or folder; give one ({KINDS}), patterns are for file systems"
            ) from error
        except OSError as error:
            raise UserError(
                f"{setting} = {path!r}: can't be read ({error}); check the name, AWS_ENDPOINT_URL, the region and the credentials"
            ) from error
    if os.path.isdir(path):
        files = sorted(file for file in Path(path).rglob("*") if _is_data(file, Path(path)))
        if not files:
            there = sorted(os.listdir(path))[:10]
            raise UserError(f"{setting} = {path!r}: no file in this folder is {KINDS}; there are: {', '.join(there)[:300] or 'none'}")
    elif not os.path.exists(path) and glob.has_magic(path):
        files = sorted(Path(name) for name in glob.glob(path, recursive=True) if os.path.isfile(name))
        if not files:
            raise UserError(f"{setting} = {path!r}: no file matches this pattern")
    else:
        files = [Path(path)]
    return [checked_file(str(file), setting) for file in files]


def _is_data(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    return not hidden and file.name not in _DESCRIPTIONS and format_of(file) is not None and file.is_file()


def checked_file(path: str, setting: str) -> Path:
    """The path of a readable file; ValueError that names the setting otherwise."""
    file = Path(path)
    if not os.path.isfile(file):
        raise UserError(f"{setting} = {path!r}: there is no such file; give a file ({KINDS}), a folder or a pattern")
    try:
        with file.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise UserError(f"{setting} = {path!r}: can't be read ({error}); check its permissions") from error
    return file


def hub_dataset(path: str, setting: str) -> Any:
    """The data set that ``hf:NAME:SPLIT`` names (SPLIT is train where it is left out); ValueError if it can't be loaded."""
    import datasets

    name, _, split = path.removeprefix("hf:").partition(":")
    try:
        return datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the hub, its cache and its file formats each raise their own kinds
        raise UserError(
            f"{setting} = {path!r}: can't be loaded ({type(error).__name__}: {str(error)[:200]}); check the name and that the hub can "
            "be reached, or give a file"
        ) from error


def _hub_rows(path: str, setting: str) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        for row in hub_dataset(path, setting):
            number += 1
            yield f"row {number}", row
    except ValueError:
        raise
    except Exception as error:  # decoding its columns raises their libraries' own kinds
        raise UserError(f"{setting} = {path!r}: row {number + 1} can't be read ({type(error).__name__}: {str(error)[:200]})") from error


def data_fingerprint(path: str) -> str:
    """What the contents are identified by: 32 hex digits that change with the data and stay when the files are moved.

    For a data set of the hub its own fingerprint. ValueError where something can't be read.
    """
    if path.startswith("hf:"):
        return str(hub_dataset(path, "path")._fingerprint)
    digests: list[bytes] = []
    for file in data_files(path, "path"):
        try:
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise UserError(f"path = {path!r}: {file}: can't be read ({error})") from error
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex()[:32]
