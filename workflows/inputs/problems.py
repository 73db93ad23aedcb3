"""Problems and benchmarks read row by row: bad ones put aside with a reason; duplicates and contamination removed."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field

from genprm.records import Problem
from genprm.section import IdentifiedBy, Section
from workflows.inputs.decontamination import HeldOut, normalise
from workflows.inputs.files import data_fingerprint, encodable, read_file, text_of
from workflows.stage.parts import RejectedRow


class ProblemsConfig(Section):
    """A JSONL, JSON (one list) or Parquet file of problems, or ``hf:NAME:SPLIT`` for a data set of the Hugging Face hub (or
    a folder in its layout), and the benchmark files they must not overlap.

    ``limit`` takes the first so many good rows (None: all). ``benchmarks`` are files whose problem texts are kept out of
    the data: exact matches after normalising space and case, and shared 13-grams of words. Data files, or the fingerprints
    that ``python -m jobs.hold_out`` makes of them.
    """

    path: Annotated[str | None, IdentifiedBy(data_fingerprint)] = None
    text_field: str = "problem"
    answer_field: str = "answer"
    id_field: str = "unique_id"
    level_field: str = "level"
    limit: int | None = Field(default=None, ge=1)
    benchmarks: Annotated[tuple[str, ...], IdentifiedBy(lambda paths: [data_fingerprint(path) for path in paths])] = ()


def read_problems(config: ProblemsConfig, setting: str = "problems.path") -> tuple[list[Problem], list[RejectedRow], int]:
    """The good problems, the rejected rows with their reasons, and how many rows were read (their sum)."""
    held_out = HeldOut.of(config.benchmarks)
    assert config.path is not None
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
