from __future__ import annotations

from typing import Annotated

from genprm.records import Critique
from genprm.section import IdentifiedBy, Section
from workflows.inputs.files import data_fingerprint
from workflows.stage.parts import RejectedRow


class CritiquesConfig(Section):
    path: Annotated[str | None, IdentifiedBy(data_fingerprint)] = None


def read_critiques(config: CritiquesConfig, setting: str = "critiques.path") -> tuple[list[Critique], list[RejectedRow], int]:
    raise NotImplementedError
