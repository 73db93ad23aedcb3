"""Solutions from a file, with or without step labels, instead of a policy's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from genprm.errors import UserError
from genprm.grading import extract_answer
from genprm.records import GivenSolution
from genprm.section import IdentifiedBy
from workflows.inputs.decontamination import HeldOut
from workflows.inputs.files import data_fingerprint
from workflows.inputs.ids import SolutionIds
from workflows.inputs.labelled import LabelledConfig, LabelledReader
from workflows.inputs.problems import fingerprints
from workflows.inputs.rejects import collected, read_records
from workflows.stage.parts import RejectedRow


class SolutionsConfig(LabelledConfig):
    """``path`` is what holds the solutions, as in `ProblemsConfig`; None: they come from the policy. ``benchmarks`` as there."""

    path: Annotated[str | None, IdentifiedBy(data_fingerprint)] = None
    benchmarks: Annotated[tuple[str, ...], IdentifiedBy(fingerprints)] = ()


def read_solutions(config: SolutionsConfig, setting: str = "solutions.path") -> tuple[list[GivenSolution], list[RejectedRow], int]:
    """The good solutions, the rejected rows with their reasons, and how many rows were read (their sum).

    ``outcome`` and ``problem_counts`` are None. Ids are as in `SolutionIds`. ValueError where nothing is named, something can't be
    read, or every row is rejected.
    """
    return collected(iterate_solutions(config, setting))


def iterate_solutions(config: SolutionsConfig, setting: str = "solutions.path") -> Iterator[GivenSolution | RejectedRow]:
    """The same, row by row."""
    if config.path is None:
        raise UserError(f"{setting} is not set; give a file, a folder or hf:NAME:SPLIT with solutions")
    held_out = HeldOut.of(config.benchmarks, f"{setting.rpartition('.')[0]}.benchmarks")
    reader = LabelledReader(config)
    ids = SolutionIds()

    def parse(row: Mapping[str, Any], number: int) -> GivenSolution:
        found = reader.read(row)
        held_out.check(found.problem)
        own = ids.of(found.problem, found.steps, found.given_id, number)
        if own is None:
            raise ValueError("duplicate")
        problem_id, solution_id = own
        return GivenSolution(
            id=solution_id,
            problem_id=problem_id,
            problem=found.problem,
            answer=found.answer,
            level=found.level,
            steps=found.steps,
            final_answer=extract_answer("\n".join(found.steps)),
            outcome=None,
            problem_counts=None,
            given_labels_S=found.labels_S,
            num_empty_steps=found.num_empty,
            num_merged_steps=found.num_merged,
        )

    yield from read_records(
        config.path,
        setting,
        parse=parse,
        looked_for=reader.looked_for,
        id_names=config.id_field,
        limit=config.limit,
        several=reader.several,
    )
