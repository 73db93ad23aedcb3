"""A stage's rows and rejects as files, and how they are read.

While a stage is made, in its folder:

- ``_plan.json``: configuration, inputs and library versions, written first. A later run must have the same, or is refused.
- ``_parts/part-*.parquet``: the output rows of some input rows. Its metadata holds those that were rejected.
- ``_ledger/``: which parts count (`workflows.stage.ledger`)

When it is finished:

- ``part-*.parquet``: the rows, in a few files; ``rejects/part-*.parquet``: the rejected ones
- ``_stage.json``: the plan with the totals and the names of the files, written last. A stage that has it is finished.

``_link.json`` alone: the stage is read from another run (`workflows.stage.links`).
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.storage import Folder
from workflows.stage.ledger import Commit, File, Ledger, row_hash
from workflows.stage.links import DONE, dataset

PLAN = "_plan.json"
PARTS = "_parts"
REJECTS = "rejects"
_REJECTS_KEY = b"genprm.rejects"

REJECT_SCHEMA = pa.schema([("stage", pa.string()), ("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


@dataclass(frozen=True, kw_only=True)
class RejectedRow:
    id: str
    reason: str
    detail: str


def write_part(
    folder: Folder,
    rows: Sequence[Mapping[str, Any]],
    schema: pa.Schema,
    *,
    rows_in: int,
    keys: Sequence[str] = (),
    rejects: Sequence[RejectedRow] = (),
    **facts: Any,
) -> Commit:
    """Write output rows and rejects as one file of a stage's ``folder``; the commit that a ledger is to take, with ``facts``."""
    name = f"{PARTS}/part-{uuid.uuid4().hex}.parquet"
    table = pa.Table.from_pylist(list(rows), schema=schema)
    if rejects:
        table = table.replace_schema_metadata({_REJECTS_KEY: json.dumps([asdict(reject) for reject in rejects])})
    data = parquet(table)
    folder.write_bytes(name, data)
    return Commit(
        part=name,
        rows_in=rows_in,
        rows_out=len(rows),
        keys=list(keys),
        rejected={reject.id: reject.reason for reject in rejects},
        rows_hash=sum(map(row_hash, rows)),
        num_bytes=len(data),
        **facts,
    )


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def part_rejects(table: pa.Table) -> list[RejectedRow]:
    """The rejected rows in a part's metadata."""
    found = (table.schema.metadata or {}).get(_REJECTS_KEY)
    return [RejectedRow(**reject) for reject in json.loads(found)] if found else []


def rejects_table(stage: str, rejects: Sequence[RejectedRow]) -> pa.Table:
    return pa.Table.from_pylist([{"stage": stage, **asdict(reject)} for reject in rejects], schema=REJECT_SCHEMA)


def read_record(run: Folder, stage: str) -> dict[str, Any]:
    """``_stage.json`` of a finished stage, wherever it was made."""
    record: dict[str, Any] = dataset(run, stage).read_json(DONE)
    return record


def is_finished(run: Folder, stage: str) -> bool:
    return dataset(run, stage).exists(DONE)


def files(run: Folder, stage: str) -> list[File]:
    """The files with a stage's rows: of a finished one as its record names them, of another as far as it is."""
    folder = dataset(run, stage)
    if folder.exists(DONE):
        return [File(**file) for file in folder.read_json(DONE)["files"]]
    return list(Ledger.read(folder).files.values())


def paths(run: Folder, stage: str) -> list[str]:
    """What Ray Data reads."""
    folder = dataset(run, stage)
    return [folder.path_of(file.name) for file in files(run, stage)]


def iterate(run: Folder, stage: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The stage's rows, some thousands at a time; with ``columns`` only these are read."""
    folder = dataset(run, stage)
    for file in files(run, stage):
        with folder.open(file.name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=None if columns is None else list(columns)):
                yield pa.Table.from_batches([batch])


def iterate_rows(run: Folder, stage: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    for table in iterate(run, stage, columns):
        yield from table.to_pylist()


def read_rows(run: Folder, stage: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """All rows of a stage; for summaries of a few columns, tests and small stages."""
    return list(iterate_rows(run, stage, columns))


def read_rejects(run: Folder, stage: str) -> list[dict[str, Any]]:
    """The rejected rows: stage, id, reason, detail."""
    folder = dataset(run, stage)
    if folder.exists(DONE):
        found = [folder.read_bytes(rejects_name(File(**file))) for file in folder.read_json(DONE)["files"] if file["num_rejects"]]
        return [row for data in found for row in pq.read_table(pa.BufferReader(data), partitioning=None).to_pylist()]
    ledger = Ledger.read(folder)
    rejects = []
    for file in ledger.files.values():
        if file.num_rejects:
            rejects += kept_rejects(folder, file, ledger.retracted.get(file.name, set()))
    return rejects_table(stage, rejects).to_pylist()


def kept_rejects(folder: Folder, file: File, retracted: set[str]) -> list[RejectedRow]:
    """The rejects of a part, or of a file of a finished stage that is made further."""
    if file.name.startswith(PARTS):
        found = part_rejects(pq.read_table(pa.BufferReader(folder.read_bytes(file.name)), columns=[], partitioning=None))
    else:
        rows = pq.read_table(pa.BufferReader(folder.read_bytes(rejects_name(file))), partitioning=None).to_pylist()
        found = [RejectedRow(id=row["id"], reason=row["reason"], detail=row["detail"]) for row in rows]
    return [reject for reject in found if reject.id not in retracted]


def rejects_name(file: File) -> str:
    """Where the rejects of a finished stage's file are."""
    return f"{REJECTS}/{file.name}"
