"""Reading data files: every row checked, bad ones put aside with a reason; duplicates and contamination removed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field

from actors.section import Section
from genprm.records import BenchmarkSolution, Problem
from workflows.parts import RejectedRow

LONGEST_TEXT = 100_000
"""Characters; more is no problem text and would only burst a model's context."""
NGRAM = 13


class ProblemsConfig(Section):
    """A JSONL, JSON (one list) or Parquet file of problems, or ``hf:NAME:SPLIT`` for a data set of the Hugging Face hub (or
    a folder in its layout), and the benchmark files they must not overlap.

    ``limit`` takes the first so many good rows (None: all). ``benchmarks`` are files whose problem texts are kept out of
    the data: exact matches after normalising space and case, and shared 13-grams of words.
    """

    path: str
    text_field: str = "problem"
    answer_field: str = "answer"
    id_field: str = "unique_id"
    level_field: str = "level"
    limit: int | None = Field(default=None, ge=1)
    benchmarks: tuple[str, ...] = ()


def checked_file(path: str, setting: str) -> Path:
    """The path of a readable file; ValueError that names the setting otherwise."""
    file = Path(path)
    if not file.is_file():
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
        for number, row in enumerate(pq.read_table(file).to_pylist(), start=1):
            yield f"row {number}", row
    elif file.suffix == ".json":
        try:
            rows = json.loads(file.read_bytes())
        except ValueError as error:
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


def _text(row: Mapping[str, Any], field: str) -> str:
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


def normalise(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().lower()


def ngrams(text: str) -> set[str]:
    words = re.findall(r"[^\W_]+", normalise(text))
    return {" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def benchmark_texts(paths: Sequence[str]) -> list[str]:
    """The problem texts of benchmark files, under whichever of the usual names they stand."""
    texts = []
    for path in paths:
        for _, row in read_file(path, "problems.benchmarks"):
            if isinstance(row, dict):
                text = next((row[name] for name in ("problem", "question", "text") if isinstance(row.get(name), str)), None)
                if text:
                    texts.append(text)
    return texts


def read_problems(config: ProblemsConfig, setting: str = "problems.path") -> tuple[list[Problem], list[RejectedRow], int]:
    """The good problems, the rejected rows with their reasons, and how many rows were read (their sum)."""
    held_out = benchmark_texts(config.benchmarks)
    exact = {normalise(text) for text in held_out}
    grams: set[str] = set().union(*(ngrams(text) for text in held_out))
    problems: list[Problem] = []
    rejects: list[RejectedRow] = []
    texts: set[str] = set()
    ids: set[str] = set()
    num_rows = 0
    for place, row in read_file(config.path, setting):
        if config.limit is not None and len(problems) >= config.limit:
            break
        num_rows += 1
        name = place
        try:
            if isinstance(row, ValueError):
                raise ValueError("not JSON")
            if not isinstance(row, dict):
                raise ValueError("not an object")
            if isinstance(row.get(config.id_field), str | int):
                name = str(row[config.id_field]).encode("utf-8", "replace").decode()
            text, answer = _text(row, config.text_field), _text(row, config.answer_field)
            if "####" in answer:  # GSM8K writes the answer at the end of its solution
                answer = answer.rpartition("####")[2].strip()
            key = normalise(text)
            if key in texts:
                raise ValueError("duplicate")
            if key in exact:
                raise ValueError("stands in a benchmark")
            if grams and not grams.isdisjoint(ngrams(text)):
                raise ValueError("overlaps a benchmark")
        except ValueError as reason:
            rejects.append(RejectedRow(id=name, reason=str(reason), detail=f"{config.path}, {place}"))
            continue
        if name == place:
            name = "problem-" + hashlib.sha256(key.encode()).hexdigest()[:12]
        if name in ids:
            name = f"{name}#{place.partition(' ')[2]}"
        texts.add(key)
        ids.add(name)
        level = row.get(config.level_field)
        problems.append(Problem(id=name, text=text, answer=answer, level=None if level is None else str(level)))
    return problems, rejects, num_rows


def read_benchmark(path: str, limit: int | None, setting: str) -> tuple[list[BenchmarkSolution], list[RejectedRow], int]:
    """The rows of a ProcessBench file: id, problem, steps, label (0-based first wrong step, -1 for none)."""
    rows: list[BenchmarkSolution] = []
    rejects: list[RejectedRow] = []
    ids: set[str] = set()
    num_rows = 0
    for place, row in read_file(path, setting):
        if limit is not None and len(rows) >= limit:
            break
        num_rows += 1
        try:
            if isinstance(row, ValueError):
                raise ValueError("not JSON")
            if not isinstance(row, dict):
                raise ValueError("not an object")
            problem = _text(row, "problem")
            steps = row.get("steps")
            if not isinstance(steps, list) or not steps:
                raise ValueError("no steps")
            checked = [_text({"step": step}, "step") for step in steps]
            label = row.get("label")
            if not isinstance(label, int) or isinstance(label, bool):
                raise ValueError("label is not an integer")
            if not -1 <= label < len(checked):
                raise ValueError("label is no step")
        except ValueError as reason:
            rejects.append(RejectedRow(id=place, reason=str(reason), detail=path))
            continue
        name = str(row["id"]) if isinstance(row.get("id"), str | int) else place
        if name in ids:
            name = f"{name}#{place.partition(' ')[2]}"
        ids.add(name)
        rows.append(BenchmarkSolution(id=name, problem=problem, steps=tuple(checked), label=label))
    return rows, rejects, num_rows
