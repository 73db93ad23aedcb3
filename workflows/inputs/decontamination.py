"""Keeping benchmark problems out of training data.

A problem is kept out if it is a benchmark's, however it is typeset (case, space, delimiters and looks do not count), or if it overlaps
one by the rule of Qwen2.5-Math's report (arXiv 2409.12122): both share a run of 13 words *and* have a common subsequence of words that is
0.6 of the longer one. The run alone would keep out phrases such as "where m and n are relatively prime positive integers". Ours: 0.9 of
the shorter one is enough too, for a problem that stands inside a longer text. Names of LaTeX commands and drawings (Asymptote) are no
words.

A benchmark is a data file, or a fingerprint file made of one, so that the well-known benchmarks can be kept out by anyone who does not have
them. A fingerprint file has a hash of each text and a code of 12 bits for each of its words. Many words share a code, so the text can't
be read back; the rule compares codes. Those of MATH-500 and ProcessBench (gsm8k, math) are in ``held_out/``.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from genprm.errors import UserError
from genprm.grading.spelling import ascii_mathematics
from workflows.inputs import names
from workflows.inputs.fields import message_text, value_at
from workflows.inputs.files import checked_file, read_rows

NGRAM = 13
"""Words; the length that decontamination in this field usually takes."""
SHARE_OF_LONGER = 0.6
SHARE_OF_SHORTER = 0.9
CODE_BITS = 12
FINGERPRINTS = ".fingerprints.parquet"
SCHEMA = pa.schema([("tokens", pa.uint64()), ("words", pa.list_(pa.uint16()))])

_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL | re.IGNORECASE)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_LOOKS = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|text(?:bf|it|rm|sf|tt|normal)?|mathrm|mathbf|mathit|mbox|quad|qquad|limits)(?![A-Za-z])"
)
_DELIMITER = re.compile(r"\\[()\[\]]")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_WORD = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"\\[a-z]+|[^\W_]+|[-+*/^=<>!|(){}\[\]]")


def _read(text: str) -> str:
    """Without drawings, in one spelling of mathematical characters and in small letters."""
    return ascii_mathematics(_DRAWING.sub(" ", text) if "[/asy]" in text.lower() else text).lower()


def word_codes(text: str) -> tuple[int, ...]:
    """A code for each word of a text."""
    return tuple(map(_code, _WORD.findall(_COMMAND.sub(" ", _read(text)))))


def tokens_hash(text: str) -> int:
    """Of a text's words, operators and commands, without what changes only its looks."""
    return _hash(" ".join(_TOKEN.findall(_DELIMITER.sub(" ", _FRACTION.sub(r"\\frac", _LOOKS.sub(" ", _read(text)))))))


@lru_cache(maxsize=1 << 17)
def _code(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=2).digest()
    return int.from_bytes(digest, "little") & ((1 << CODE_BITS) - 1)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def grams(codes: Sequence[int]) -> set[bytes]:
    """Every run of 13 codes, two bytes a code."""
    data = array("H", codes).tobytes()
    return {data[start : start + 2 * NGRAM] for start in range(0, len(data) - 2 * NGRAM + 1, 2)}


def common_words(first: Sequence[int], second: Sequence[int]) -> int:
    """The length of the longest common subsequence, by bits (Hyyro 2004): len(second) operations on numbers of len(first) bits."""
    places: dict[int, int] = {}
    for index, code in enumerate(first):
        places[code] = places.get(code, 0) | (1 << index)
    mask = (1 << len(first)) - 1
    free = mask
    for code in second:
        matches = free & places.get(code, 0)
        free = ((free + matches) | (free - matches)) & mask
    return len(first) - free.bit_count()


class HeldBack(ValueError):
    """A text that stands in a benchmark; the message is the reason that is counted, ``detail`` what it shares."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


def _shared_run(text: str, grams_there: set[bytes]) -> str:
    """The longest part of a text whose every run of 13 words stands in another one."""
    text = _COMMAND.sub(" ", _read(text))
    words = list(_WORD.finditer(text))
    codes = array("H", map(_code, (word.group() for word in words))).tobytes()
    best, begin = (0, 0), None
    for start in range(len(words) - NGRAM + 2):
        inside = start <= len(words) - NGRAM and codes[2 * start : 2 * (start + NGRAM)] in grams_there
        if inside and begin is None:
            begin = start
        elif not inside and begin is not None:
            best, begin = max(best, (begin, start + NGRAM - 1), key=lambda run: run[1] - run[0]), None
    return text[words[best[0]].start() : words[best[1] - 1].end()] if best[1] else ""


class HeldOut:
    """The problems of some benchmarks: ``tokens[i]`` is the hash of a text (`tokens_hash`), ``words[i]`` the codes of its words.

    ``overlap`` is the share of the longer text that a common subsequence needs; with 0 a shared run of 13 words is enough.
    """

    def __init__(self, tokens: Iterable[int], words: Iterable[Sequence[int]], overlap: float = SHARE_OF_LONGER) -> None:
        self._overlap = overlap
        self._problems = {text: tuple(codes) for text, codes in zip(tokens, words, strict=True)}
        self._grams: dict[bytes, list[tuple[int, ...]]] = {}
        for codes in self._problems.values():
            for gram in grams(codes):
                self._grams.setdefault(gram, []).append(codes)

    @classmethod
    def of(cls, paths: Sequence[str], setting: str = "problems.benchmarks", overlap: float = SHARE_OF_LONGER) -> HeldOut:
        """From data files and fingerprint files; ValueError that names the setting for one that can't be read."""
        tokens: list[int] = []
        words: list[Sequence[int]] = []
        for path in paths:
            if path.endswith(FINGERPRINTS):
                try:
                    table = pq.read_table(checked_file(path, setting))
                except (pa.ArrowException, OSError) as error:
                    raise UserError(f"{setting} = {path!r}: not a fingerprint file ({str(error)[:200]})") from error
                if not table.schema.equals(SCHEMA) or table["tokens"].null_count or table["words"].null_count:
                    raise UserError(f"{setting} = {path!r}: not a fingerprint file of this version; make it with python -m jobs.hold_out")
                tokens += table["tokens"].to_pylist()
                words += [[code or 0 for code in codes] for codes in table["words"].to_pylist()]
            else:
                texts = benchmark_texts(path, setting)
                tokens += map(tokens_hash, texts)
                words += map(word_codes, texts)
        return cls(tokens, words, overlap)

    def has(self, text: str) -> bool:
        return bool(self._problems) and tokens_hash(text) in self._problems

    def overlap(self, text: str) -> str | None:
        """The words that it shares with a benchmark's problem, None where it shares too few."""
        if not self._grams:
            return None
        codes = word_codes(text)
        shared = self._grams.keys() & grams(codes)
        for problem in {problem for gram in shared for problem in self._grams[gram]}:
            shorter, longer = sorted((len(problem), len(codes)))
            common = common_words(problem, codes)
            if common >= self._overlap * longer or common >= SHARE_OF_SHORTER * shorter:
                counts = f"{common} words in the same order, of {len(codes)} here and {len(problem)} there"
                return f"{counts}: {_shared_run(text, grams(problem))!r}"
        return None

    def check(self, text: str) -> None:
        """HeldBack where a text must be kept out."""
        if self.has(text):
            raise HeldBack("stands in a benchmark")
        overlap = self.overlap(text)
        if overlap is not None:
            raise HeldBack("overlaps a benchmark", overlap)

    def write(self, file: Path) -> None:
        rows = [{"tokens": tokens, "words": codes} for tokens, codes in sorted(self._problems.items())]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file, compression="zstd", use_dictionary=False, write_statistics=False)


def benchmark_texts(path: str, setting: str) -> list[str]:
    """The problem texts of a benchmark's files, under whichever of the usual names they stand."""
    texts = []
    for _, row in read_rows(path, setting):
        if isinstance(row, dict):
            for name in (*names.PROBLEM, "question.problem", "original_question", "text"):
                try:
                    texts.append(message_text(value_at(row, name), name))
                    break
                except ValueError:
                    continue
    if not texts:
        looked = ", ".join((*names.PROBLEM, "text"))
        raise UserError(f"{setting} = {path!r}: no row has a problem text ({looked}); nothing could be kept out")
    return texts
