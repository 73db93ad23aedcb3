"""Rejected rows processed again, in a finished or unfinished stage, and what depends on them made again."""

from __future__ import annotations

from collections.abc import Sequence

from genprm.errors import UserError
from workflows.stage import parts
from workflows.stage.ledger import Ledger
from workflows.stage.links import DONE
from workflows.stage.run import Run
from workflows.stage.stage import Stage


def stage_and_reason(reference: str, stages: Sequence[Stage]) -> tuple[str, str]:
    """``STAGE`` or ``STAGE:REASON`` in its parts; UserError if there is no such stage."""
    name, _, reason = reference.partition(":")
    names = [stage.name for stage in stages]
    if name not in names:
        raise UserError(f"--retry {reference}: there is no stage {name!r}; this configuration has {', '.join(names)}")
    return name, reason


def retry(stages: Sequence[Stage], name: str, reason: str, run: Run) -> str:
    """Open a stage for its rejected rows whose reason begins so; gives a line for people. UserError if there is none.

    Stages that read it are opened, too. Of those that process rows one by one only the new rows are made; others are made again whole.
    """
    by_name = {stage.name: stage for stage in stages}
    if run.is_elsewhere(name):
        raise UserError(f"--retry {name}: it is read from another run; retry it there")
    if not by_name[name].is_row_by_row:
        raise UserError(f"--retry {name}: its rows are not processed one by one; delete {(run.folder / name).uri} to make it again")
    ledger = Ledger.read(run.folder / name)
    number = ledger.num_rejects(reason)
    if not number:
        there = ", ".join(f"{found!r} ({count})" for found, count in ledger.rejects.most_common(10)) or "none"
        raise UserError(f"--retry {name}{':' if reason else ''}{reason}: no rejected row has such a reason; there are: {there}")
    again = [stage for stage in stages if name in _ancestors(stage, by_name) and (run.folder / stage.name).exists(parts.PLAN)]
    whole: set[str] = set()
    for stage in again:
        follows = {name, *(one.name for one in again)}.intersection(stage.after)  # a model that is trained again, say
        if not stage.is_incremental or follows or whole.intersection(stage.reads):
            whole.add(stage.name)
    for stage in reversed(again):
        _open(stage, run, whole=stage.name in whole)
    (run.folder / name).delete(DONE)  # before the ledger: a record must not name what the ledger takes back
    ledger.retract(reason)
    return f"{name}: {number:,} rejected rows are processed again" + (f", then {', '.join(stage.name for stage in again)}" if again else "")


def _ancestors(stage: Stage, by_name: dict[str, Stage]) -> set[str]:
    """All stages that it depends on."""
    found: set[str] = set()
    for read in (*stage.reads, *stage.after):
        found.add(read)
        if read in by_name:
            found |= _ancestors(by_name[read], by_name)
    return found


def _open(stage: Stage, run: Run, *, whole: bool) -> None:
    """Have a stage made further, or again from the beginning, with whatever its inputs then are."""
    folder = run.folder / stage.name
    folder.delete(DONE)
    if whole:
        stage.clear(run)
        folder.delete(parts.PLAN)
        return
    plan = folder.read_json(parts.PLAN)
    folder.write_json(parts.PLAN, {**plan, "inputs": dict.fromkeys(plan["inputs"], None)})
