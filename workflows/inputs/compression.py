"""Opening files that may be compressed: recognized by their first bytes, not by their names."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""What a damaged or unreadable file raises while it is read."""

_OTHERS = {b"PK\x03\x04": "a zip archive", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive", b"ARROW1": "an Arrow file"}


class BadFile(ValueError):
    """A file that can't be read as data; the message lacks the setting, which the caller adds."""


def open_plain(file: Path) -> BinaryIO:
    """The decompressed bytes of a file, as a buffered stream; BadFile for archives, one of READ_ERRORS for what can't be opened."""
    with file.open("rb") as raw:
        head = raw.read(6)
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise BadFile(f"this is {name}; extract it and give JSONL, JSON, CSV or Parquet files")
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(file, "rb"))
    if head.startswith(b"BZh"):
        return cast(BinaryIO, bz2.open(file, "rb"))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast(BinaryIO, lzma.open(file, "rb"))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(file)), "zstd")))
    return file.open("rb")


def is_compressed(file: Path) -> bool:
    with file.open("rb") as raw:
        return raw.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"))
