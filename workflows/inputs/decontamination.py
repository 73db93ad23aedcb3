"""Keeping benchmark problems out of training data: exact texts, and shared 13-grams of words, both as hashes.

A benchmark is a data file, or a fingerprint file made of one, which holds the hashes alone: so the well-known benchmarks can
be kept out of a run by anyone who does not have them. Those of MATH-500 and ProcessBench (gsm8k, math) are in ``held_out/``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from workflows.inputs.files import checked_file, read_file

NGRAM = 13
"""Words; the length that decontamination in this field usually takes."""
FINGERPRINTS = ".fingerprints.parquet"
SCHEMA = pa.schema([("kind", pa.dictionary(pa.int8(), pa.string())), ("hash", pa.uint64())])


def normalise(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().lower()


def ngrams(text: str) -> set[str]:
    words = re.findall(r"[^\W_]+", normalise(text))
    return {" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def _hash(text: str) -> int:
    """64 bits: among the 10^5 n-grams of a benchmark and the 10^6 of a data set a false match is a chance of 10^-8."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


class HeldOut:
    """The problems of some benchmarks, as hashes of their texts and of their 13-grams."""

    def __init__(self, texts: Iterable[int], grams: Iterable[int]) -> None:
        self._texts = frozenset(texts)
        self._grams = frozenset(grams)

    @classmethod
    def of(cls, paths: Sequence[str], setting: str = "problems.benchmarks") -> HeldOut:
        """From data files and fingerprint files; ValueError that names the setting for one that can't be read."""
        texts: set[int] = set()
        grams: set[int] = set()
        for path in paths:
            if path.endswith(FINGERPRINTS):
                try:
                    table = pq.read_table(checked_file(path, setting))
                except (pa.ArrowException, OSError) as error:
                    raise ValueError(f"{setting} = {path!r}: not a fingerprint file ({str(error)[:200]})") from error
                if not table.schema.equals(SCHEMA):
                    raise ValueError(f"{setting} = {path!r}: not a fingerprint file; make it with python -m jobs.hold_out")
                for kind, value in zip(table["kind"].to_pylist(), table["hash"].to_pylist(), strict=True):
                    (texts if kind == "text" else grams).add(value)
            else:
                for text in benchmark_texts(path, setting):
                    texts.add(_hash(normalise(text)))
                    grams |= {_hash(gram) for gram in ngrams(text)}
        return cls(texts, grams)

    def has(self, text: str) -> bool:
        return _hash(normalise(text)) in self._texts

    def overlaps(self, text: str) -> bool:
        return bool(self._grams) and any(_hash(gram) in self._grams for gram in ngrams(text))

    def write(self, file: Path) -> None:
        rows = [("text", value) for value in sorted(self._texts)] + [("ngram", value) for value in sorted(self._grams)]
        table = pa.Table.from_pylist([{"kind": kind, "hash": value} for kind, value in rows], schema=SCHEMA)
        pq.write_table(table, file, compression="zstd", use_dictionary=["kind"], write_statistics=False)


def benchmark_texts(path: str, setting: str) -> list[str]:
    """The problem texts of a benchmark file, under whichever of the usual names they stand."""
    texts = []
    for _, row in read_file(path, setting):
        if isinstance(row, dict):
            text = next((row[name] for name in ("problem", "question", "text") if isinstance(row.get(name), str)), None)
            if text:
                texts.append(text)
    if not texts:
        raise ValueError(f"{setting} = {path!r}: no row has a problem, question or text; nothing could be kept out")
    return texts
