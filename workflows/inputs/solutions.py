from __future__ import annotations

from typing import Annotated

from genprm.records import Solution
from genprm.section import IdentifiedBy, Section
from workflows.inputs.files import data_fingerprint
from workflows.stage.parts import RejectedRow


class SolutionsConfig(Section):
    path: Annotated[str | None, IdentifiedBy(data_fingerprint)] = None
    limit: int | None = None


def read_solutions(config: SolutionsConfig, setting: str = "solutions.path") -> tuple[list[Solution], list[RejectedRow], int]:
    raise NotImplementedError
