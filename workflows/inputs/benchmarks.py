from __future__ import annotations

from typing import Annotated

from genprm.records import BenchmarkSolution
from genprm.section import IdentifiedBy, Section
from workflows.inputs.files import data_fingerprint, encodable, read_file, text_of
from workflows.stage.parts import RejectedRow


class BenchmarkConfig(Section):
    path: Annotated[str, IdentifiedBy(data_fingerprint)]
    limit: int | None = None


def read_benchmark(config: BenchmarkConfig, setting: str) -> tuple[list[BenchmarkSolution], list[RejectedRow], int]:
    path, limit = config.path, config.limit
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
