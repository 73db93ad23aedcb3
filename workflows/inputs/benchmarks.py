"""Benchmarks of step judgement: solutions with a known first error, in any layout that solutions have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any

from genprm.progress import first_error
from genprm.records import BenchmarkSolution
from genprm.section import IdentifiedBy
from workflows.inputs.fields import FieldError
from workflows.inputs.files import data_fingerprint
from workflows.inputs.ids import UniqueIds
from workflows.inputs.labelled import LabelledConfig, LabelledReader
from workflows.inputs.rejects import collected, read_records
from workflows.stage.parts import RejectedRow


class BenchmarkConfig(LabelledConfig):
    """``path`` is what holds the benchmark: a file, a folder, a pattern or ``hf:NAME:SPLIT``."""

    path: Annotated[str, IdentifiedBy(data_fingerprint)]


def read_benchmark(config: BenchmarkConfig, setting: str = "benchmarks.path") -> tuple[list[BenchmarkSolution], list[RejectedRow], int]:
    """The good rows, the rejected ones with their reasons, and how many were read (their sum).

    A row's id is its own, or its place in the file. ValueError where something can't be read or every row is rejected.
    """
    return collected(iterate_benchmark(config, setting))


def iterate_benchmark(config: BenchmarkConfig, setting: str = "benchmarks.path") -> Iterator[BenchmarkSolution | RejectedRow]:
    """The same, row by row."""
    reader = LabelledReader(config)
    ids = UniqueIds()

    def parse(row: Mapping[str, Any], number: int) -> BenchmarkSolution:
        found = reader.read(row)
        if found.labels_S is None:
            raise FieldError("no label", "label_field")
        return BenchmarkSolution(
            id=ids.of(found.given_id or f"row {number}", number),
            problem=found.problem,
            steps=found.steps,
            label=first_error(found.labels_S),
        )

    yield from read_records(
        config.path,
        setting,
        parse=parse,
        looked_for=partial(reader.looked_for, with_labels=True),
        id_names=config.id_field,
        limit=config.limit,
    )
