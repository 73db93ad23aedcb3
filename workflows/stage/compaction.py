"""The end of a stage: its parts become a few files of a sensible size, by tasks; the driver names them in the ledger.

What dies on the way loses nothing: the parts are there until the ledger names the new files, whose names are never used twice.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from actors.storage import Folder
from workflows.stage import parts
from workflows.stage.ledger import File, Ledger

FILE_BYTES = 256 << 20
"""Of the parts that become one file."""
MAX_PARTS = 20_000
"""The same as a number: a task opens each of them."""
GROUP_ROWS = 10_000
"""Rows of a row group, at most."""
GROUP_BYTES = 64 << 20


def compact(folder: Folder, stage: str, schema: pa.Schema, ledger: Ledger) -> list[File]:
    """Merge all parts that the ledger names; gives the stage's files, which it then names in their place."""
    if not any(file.name.startswith(parts.PARTS) for file in ledger.files.values()) and not ledger.retracted and ledger.files:
        files = list(ledger.files.values())
        remove(folder, files)
        return files
    old = list(ledger.files.values())
    groups = list(grouped(old))
    names = [f"part-{ledger.generation:02}-{index:05}.parquet" for index in range(len(groups))]
    merge = ray.remote(_merge).options(num_cpus=1, max_retries=3, retry_exceptions=[OSError])
    retracted = [{file.name: ledger.retracted[file.name] for file in group if file.name in ledger.retracted} for group in groups]
    merged = [
        merge.remote(folder, stage, name, schema, group, dropped) for name, group, dropped in zip(names, groups, retracted, strict=True)
    ]
    new: list[File] = ray.get(merged)
    ledger.compact(new)
    remove(folder, new)
    return new


def grouped(files: Iterable[File]) -> Iterator[list[File]]:
    """The files that go into one, in their order; one empty group where there are none."""
    group: list[File] = []
    size = 0
    for file in files:
        if group and (size + file.num_bytes > FILE_BYTES or len(group) == MAX_PARTS):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.num_bytes
    yield group


def remove(folder: Folder, files: Sequence[File]) -> None:
    """Delete all but the stage's files: what was merged, and what was left by workers and jobs that died."""
    folder.delete_folder(parts.PARTS)
    kept = {file.name for file in files}
    for name in set(folder.names(prefix="part-")) - kept:
        folder.delete(name)
    with_rejects = {file.name for file in files if file.num_rejects}
    for name in set((folder / parts.REJECTS).names(prefix="part-")) - with_rejects:
        folder.delete(f"{parts.REJECTS}/{name}")


def _merge(folder: Folder, stage: str, name: str, schema: pa.Schema, group: Sequence[File], retracted: dict[str, set[str]]) -> File:
    """Runs as a Ray task. Files are made on the local disk first: an object store takes a file whole, or not at all."""
    rejects = [reject for file in group if file.num_rejects for reject in parts.kept_rejects(folder, file, retracted.get(file.name, set()))]
    num_rows = 0
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch, "merged.parquet")
        with pq.ParquetWriter(local, schema, compression="zstd") as writer:
            for table in _row_groups(folder, group):
                writer.write_table(table.replace_schema_metadata(None).cast(schema))
                num_rows += len(table)
        folder.upload(name, local)
        num_bytes = local.stat().st_size
    if rejects:
        folder.write_bytes(f"{parts.REJECTS}/{name}", parts.parquet(parts.rejects_table(stage, rejects)))
    return File(name=name, num_rows=num_rows, num_bytes=num_bytes, num_rejects=len(rejects))


def _row_groups(folder: Folder, group: Sequence[File]) -> Iterator[pa.Table]:
    """The rows of some files, in tables of a row group's size."""
    held: list[pa.Table] = []
    num_rows = num_bytes = 0
    for file in group:
        if not file.num_rows:
            continue
        with io.BytesIO(folder.read_bytes(file.name)) if file.num_bytes < GROUP_BYTES else folder.open(file.name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=GROUP_ROWS):
                held.append(pa.Table.from_batches([batch]).replace_schema_metadata(None))
                num_rows += len(batch)
                num_bytes += batch.nbytes
                if num_rows >= GROUP_ROWS or num_bytes >= GROUP_BYTES:
                    yield pa.concat_tables(held)
                    held, num_rows, num_bytes = [], 0, 0
    if held:
        yield pa.concat_tables(held)
