"""Problems and benchmarks read row by row: bad ones put aside with a reason; duplicates and contamination removed."""

from __future__ import annotations

import hashlib

from pydantic import Field

from genprm.section import Section
from genprm.records import BenchmarkSolution, Problem
from workflows.inputs.files import encodable, read_file, text_of
from workflows.inputs.decontamination import HeldOut, normalise
from workflows.stage.parts import RejectedRow


class ProblemsConfig(Section):
    """A JSONL, JSON (one list) or Parquet file of problems, or ``hf:NAME:SPLIT`` for a data set of the Hugging Face hub (or
    a folder in its layout), and the benchmark files they must not overlap.

    ``limit`` takes the first so many good rows (None: all). ``benchmarks`` are files whose problem texts are kept out of
    the data: exact matches after normalising space and case, and shared 13-grams of words. Data files, or the fingerprints
    that ``python -m jobs.hold_out`` makes of them.
    """

    path: str
    text_field: str = "problem"
    answer_field: str = "answer"
    id_field: str = "unique_id"
    level_field: str = "level"
    limit: int | None = Field(default=None, ge=1)
    benchmarks: tuple[str, ...] = ()


def read_problems(config: ProblemsConfig, setting: str = "problems.path") -> tuple[list[Problem], list[RejectedRow], int]:
    """The good problems, the rejected rows with their reasons, and how many rows were read (their sum)."""
    held_out = HeldOut.of(config.benchmarks)
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
                name = encodable(str(row[config.id_field]))
            text, answer = text_of(row, config.text_field), text_of(row, config.answer_field)
            if "####" in answer:  # GSM8K writes the answer at the end of its solution
                answer = answer.rpartition("####")[2].strip()
            key = normalise(text)
            if key in texts:
                raise ValueError("duplicate")
            if held_out.has(text):
                raise ValueError("stands in a benchmark")
            if held_out.overlaps(text):
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
        problems.append(Problem(id=name, text=text, answer=answer, level=None if level is None else encodable(str(level))))
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
            problem = text_of(row, "problem")
            steps = row.get("steps")
            if not isinstance(steps, list) or not steps:
                raise ValueError("no steps")
            checked = [text_of({"step": step}, "step") for step in steps]
            label = row.get("label")
            if not isinstance(label, int) or isinstance(label, bool):
                raise ValueError("label is not an integer")
            if not -1 <= label < len(checked):
                raise ValueError("label is no step")
        except ValueError as reason:
            rejects.append(RejectedRow(id=place, reason=str(reason), detail=path))
            continue
        name = encodable(str(row["id"])) if isinstance(row.get("id"), str | int) else place
        if name in ids:
            name = f"{name}#{place.partition(' ')[2]}"
        ids.add(name)
        rows.append(BenchmarkSolution(id=name, problem=problem, steps=tuple(checked), label=label))
    return rows, rejects, num_rows
