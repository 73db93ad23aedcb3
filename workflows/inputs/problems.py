"""Problems with reference answers, checked row by row; duplicates and what stands in a benchmark removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from genprm.errors import UserError
from genprm.records import Problem
from genprm.section import IdentifiedBy, Section
from workflows.inputs import names
from workflows.inputs.answers import answer_of
from workflows.inputs.decontamination import SHARE_OF_LONGER, HeldOut
from workflows.inputs.fields import Names, found, label_text, message_text, read
from workflows.inputs.files import data_fingerprint
from workflows.inputs.ids import UniqueIds, digest, normalise, text_id
from workflows.inputs.rejects import collected, read_records
from workflows.stage.parts import RejectedRow


def fingerprints(paths: tuple[str, ...]) -> list[str]:
    return [data_fingerprint(path) for path in paths]


class ProblemsConfig(Section):
    """Where the problems come from: a file (JSONL, JSON, CSV, Parquet, compressed or not), a folder, a pattern, or ``hf:NAME:SPLIT``.

    The field settings are names or paths (docs/own-data.md); of several the first with a value counts. ``limit`` takes the first so
    many good rows (None: all). ``benchmarks`` are kept out of the data (`workflows.inputs.decontamination`): data files, or the
    fingerprints that ``python -m jobs.hold_out`` makes of them. ``overlap`` is the share of words that makes two texts one problem; with 0
    a shared run of 13 words is enough.
    """

    path: Annotated[str | None, IdentifiedBy(data_fingerprint)] = None
    text_field: Names = names.PROBLEM
    answer_field: Names = (*names.ANSWER, "solution")
    id_field: Names = names.ID
    level_field: Names = names.LEVEL
    limit: int | None = Field(default=None, ge=1)
    benchmarks: Annotated[tuple[str, ...], IdentifiedBy(fingerprints)] = ()
    overlap: float = Field(default=SHARE_OF_LONGER, ge=0, le=1)


def read_problems(config: ProblemsConfig, setting: str = "problems.path") -> tuple[list[Problem], list[RejectedRow], int]:
    """The good problems, the rejected rows with their reasons, and how many rows were read (their sum).

    ValueError where nothing is named, something can't be read, or every row is rejected.
    """
    return collected(iterate_problems(config, setting))


def iterate_problems(config: ProblemsConfig, setting: str = "problems.path") -> Iterator[Problem | RejectedRow]:
    """The same, row by row."""
    if config.path is None:
        raise UserError(f"{setting} is not set; give a file, a folder or hf:NAME:SPLIT with problems")
    held_out = HeldOut.of(config.benchmarks, f"{setting.rpartition('.')[0]}.benchmarks", config.overlap)
    texts: set[bytes] = set()
    ids = UniqueIds()

    def parse(row: Mapping[str, Any], number: int) -> Problem:
        text = read(row, config.text_field, "text_field", message_text)
        answer = read(row, config.answer_field, "answer_field", answer_of)
        key = digest(normalise(text))
        if key in texts:
            raise ValueError("duplicate")
        held_out.check(text)
        texts.add(key)
        name = label_text(found(row, config.id_field)[1], "id") or text_id(text)
        level = label_text(found(row, config.level_field)[1], "level")
        return Problem(id=ids.of(name, number), text=text, answer=answer, level=level)

    yield from read_records(
        config.path,
        setting,
        parse=parse,
        looked_for=lambda _: {"text_field": config.text_field, "answer_field": config.answer_field},
        id_names=config.id_field,
        limit=config.limit,
    )
