"""A stage's records: the plan that a later run must have, too, and the totals that mark it as finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from actors.storage import Folder
from workflows.stage import parts
from workflows.stage.compaction import compact
from workflows.stage.errors import StageFailed, StageRefused
from workflows.stage.ledger import Ledger
from workflows.stage.links import DONE, FORMAT
from workflows.stage.run import Run
from workflows.stage.summary import StageSummary
from workflows.stage.versions import versions

LONGEST_SHOWN = 100
"""Characters of a value in a message."""
ALLOW_VERSIONS = "--allow-other-versions"
"""The option of every job that sets `Run.other_versions`."""


def is_begun(folder: Folder) -> bool:
    """Whether a stage's folder has anything that was made by its plan."""
    return folder.exists(parts.PLAN) and (Ledger.is_begun(folder) or (folder / "checkpoints").exists("latest"))


def is_of_earlier_version(folder: Folder) -> bool:
    """Whether a stage was made, or begun, in a form that is read no more."""
    return folder.exists(parts.PLAN) and folder.read_json(parts.PLAN).get("format") != FORMAT


def check_plan(folder: Folder, plan: Mapping[str, Any], *, other_versions: bool = False) -> None:
    """StageRefused, with what differs and the remedy, where something was made with another plan.

    ``plan`` has config, inputs, columns and versions. Other versions are refused for an unfinished stage only, and not if they are
    allowed.
    """
    if is_of_earlier_version(folder):
        raise StageRefused(
            f"{folder.uri} was written by an earlier version of this project, which this one can't read; take another --run-dir"
        )
    if not is_begun(folder):
        return
    before = folder.read_json(parts.PLAN)
    remedy = f"Take another --run-dir, or delete {folder.uri} and the stages after it to recompute them."
    if before.get("columns") != plan["columns"]:
        raise StageRefused(f"{folder.uri} was written by another version of this project, with other columns. {remedy}")
    differences = [
        f"{section}.{path} was {_short(old)} and is now {_short(new)}"
        for section in ("config", "inputs")
        for path, old, new in _differences(before.get(section, {}), plan[section])
        if not (section == "inputs" and old is None and path in before.get(section, {}))  # one that rows were added to (`--retry`)
    ]
    if differences:
        raise StageRefused(
            f"{folder.uri} was made with other settings: " + "; ".join(differences) + f". Put the setting back. Or: {remedy}"
        )
    libraries = [f"{name} was {old} and is now {new}" for name, old, new in _differences(before.get("versions", {}), plan["versions"])]
    if libraries and not other_versions and not folder.exists(DONE):
        raise StageRefused(
            f"{folder.uri} was begun with other libraries, which may change its results: " + "; ".join(libraries) + ". Install the old "
            f"versions, or resume with these: {ALLOW_VERSIONS}."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def columns(schema: pa.Schema) -> dict[str, str]:
    """A dataset's columns and their types, as a plan records them."""
    return {column.name: str(column.type) for column in schema}


def _differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in sorted(set(old) | set(new)):
            found += _differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
        return found
    return [] if old == new else [(path, old, new)]


def summary_of(record: Mapping[str, Any]) -> StageSummary:
    """The totals in a stage's record."""
    return StageSummary(**{name: record[name] for name in StageSummary.__dataclass_fields__})


def finish(stage: str, schema: pa.Schema, run: Run, plan: Mapping[str, Any], rows_in: int, ledger: Ledger) -> StageSummary:
    """Compact the parts and write ``_stage.json``, after checking that every input row is accounted for; all from the ledger."""
    folder = run.folder / stage
    if ledger.rows_in != rows_in:
        raise StageFailed(f"{stage}: {ledger.rows_in} of {rows_in} input rows are accounted for; run the same command again to resume")
    files = compact(folder, stage, schema, ledger)
    ledger.merge()
    summary = StageSummary.of(stage, ledger)
    made_with = ledger.versions or {name: {number} for name, number in versions().items()}
    record = {
        **asdict(summary),
        **plan,
        "contents": ledger.contents,
        "files": [asdict(file) for file in files],
        "versions": {name: ", ".join(sorted(numbers)) for name, numbers in sorted(made_with.items())},
    }
    folder.write_json(DONE, record)
    run.tracker.stage(summary, record)
    return summary
