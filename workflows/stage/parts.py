"""What a stage leaves in its folder: Parquet parts with their own accounts, and the records around them.

- ``part-<keys>.parquet``: the output rows of one batch of input rows. Its metadata names the input keys that it finishes,
  so a part is both data and checkpoint: it is there whole or not at all.
- ``rejects/part-<keys>.parquet``: rejected rows, written before the part that counts them.
- ``_plan.json``: configuration, inputs and library versions, written first. A later run must have the same, or is refused.
- ``_stage.json``: the same with the totals, written last. A stage that has it is finished.
- ``_attempts/``: blocks and rows in flight, and how often they were lost with their worker, until the stage is finished.
- ``_link.json`` alone: the stage is read from another run (`workflows.stage.links`).
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflows.stage.folder import Folder
from workflows.stage.links import DONE, dataset

PLAN = "_plan.json"
ATTEMPTS = "_attempts"
REJECTS = "rejects"
_ACCOUNT_KEY = b"genprm.account"

REJECT_SCHEMA = pa.schema([("stage", pa.string()), ("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


@dataclass(frozen=True, kw_only=True)
class RejectedRow:
    id: str
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class PartAccount:
    """What a part stands for: ``keys[i]`` is an input row that made ``rows_per_key[i]`` of its rows;
    ``rejected`` gives the reason of each one that was rejected.

    ``session`` is the run of the job that wrote it; ``began`` when that session's stage began, ``ready`` when the worker was
    built, ``committed`` when the part was written, all in seconds since the epoch. ``versions`` are those of the project and of the
    libraries that decide results, where the worker ran.
    """

    keys: list[str]
    rows_per_key: list[int]
    rejected: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    session: str = ""
    began: float = 0.0
    ready: float = 0.0
    committed: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)


def part_name(keys: Sequence[str]) -> str:
    digest = hashlib.sha256("\n".join(sorted(keys)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"part-{digest[:20]}.parquet"


def write_part(
    run: Folder,
    stage: str,
    rows: Sequence[Mapping[str, Any]],
    schema: pa.Schema,
    account: PartAccount,
    rejects: Sequence[RejectedRow],
) -> None:
    name = part_name(account.keys)
    if rejects:
        table = pa.Table.from_pylist([{"stage": stage, **asdict(reject)} for reject in rejects], schema=REJECT_SCHEMA)
        (run / stage / REJECTS).write_bytes(name, _parquet(table))
    table = pa.Table.from_pylist(list(rows), schema=schema)
    (run / stage).write_bytes(name, _parquet(table.replace_schema_metadata({_ACCOUNT_KEY: json.dumps(asdict(account))})))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def part_names(run: Folder, stage: str) -> list[str]:
    return dataset(run, stage).names(prefix="part-", suffix=".parquet")


def part_paths(run: Folder, stage: str) -> list[str]:
    """What Ray Data reads."""
    folder = dataset(run, stage)
    return [folder.path_of(name) for name in part_names(run, stage)]


def read_record(run: Folder, stage: str) -> dict[str, Any]:
    """``_stage.json`` of a finished stage, wherever it was made."""
    record: dict[str, Any] = dataset(run, stage).read_json(DONE)
    return record


def is_finished(run: Folder, stage: str) -> bool:
    return dataset(run, stage).exists(DONE)


def read_accounts(run: Folder, stage: str) -> dict[str, PartAccount]:
    """The account of every committed part, by name."""
    folder = dataset(run, stage)
    names = part_names(run, stage)

    def read(name: str) -> PartAccount:
        metadata = pq.read_schema(pa.BufferReader(folder.read_bytes(name))).metadata
        return PartAccount(**json.loads(metadata[_ACCOUNT_KEY]))

    with ThreadPoolExecutor(max_workers=16) as pool:
        return dict(zip(names, pool.map(read, names), strict=True))


def read_rows(run: Folder, stage: str) -> list[dict[str, Any]]:
    """All rows of a stage, in the order of its parts' names; for summaries, tests and small stages."""
    return [row for table in iterate_parts(run, stage) for row in table.to_pylist()]


def iterate_parts(run: Folder, stage: str) -> Iterator[pa.Table]:
    """The stage's rows, one part at a time."""
    folder = dataset(run, stage)
    for name in part_names(run, stage):
        yield _read_part(folder, name)


def _read_part(folder: Folder, name: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(folder.read_bytes(name)), partitioning=None)


def read_rejects(run: Folder, stage: str) -> list[dict[str, Any]]:
    """The rejected rows, each once: those of committed parts."""
    rows: dict[str, dict[str, Any]] = {}
    folder = dataset(run, stage) / REJECTS
    for name in part_names(run, stage):
        if folder.exists(name):
            rows |= {row["id"]: row for row in _read_part(folder, name).to_pylist()}
    return list(rows.values())


FAILURES = ("engine error", "executor or engine lost", "error: ")
"""How the reasons of rows begin that failed through no fault of their own."""


def all_failed(run: Folder, stage: str) -> bool:
    """Whether there are rows and every one was rejected because of a failure: a wrong key, a server that is down, a bug."""
    accounts = read_accounts(run, stage).values()
    num_failed = sum(reason.startswith(FAILURES) for account in accounts for reason in account.rejected.values())
    return 0 < num_failed == sum(len(account.keys) for account in accounts)


def drop_orphans(run: Folder, stage: str) -> None:
    """Delete the rejects of parts that were never committed, because their worker died between the two."""
    committed = set(part_names(run, stage))
    rejects = run / stage / REJECTS
    for name in rejects.names(prefix="part-", suffix=".parquet"):
        if name not in committed:
            rejects.delete(name)


def drop_repeated_keys(run: Folder, stage: str) -> dict[str, PartAccount]:
    """The accounts, after any input row that two parts finished is left in one of them only.

    That happens only where Ray recomputed a lost block in other bounds after a node died.
    """
    accounts = read_accounts(run, stage)
    seen: set[str] = set()
    for name in sorted(accounts, key=lambda part: (accounts[part].committed, part)):
        account = accounts[name]
        repeated = seen.intersection(account.keys)
        seen.update(account.keys)
        if repeated:
            accounts[name] = _without_keys(run, stage, name, account, repeated)
    return accounts


def _without_keys(run: Folder, stage: str, name: str, account: PartAccount, repeated: set[str]) -> PartAccount:
    table = _read_part(run / stage, name)
    keep: list[bool] = []
    for key, count in zip(account.keys, account.rows_per_key, strict=True):
        keep.extend([key not in repeated] * count)
    pairs = [(key, n) for key, n in zip(account.keys, account.rows_per_key, strict=True) if key not in repeated]
    changes: dict[str, Any] = {
        "keys": [key for key, _ in pairs],
        "rows_per_key": [n for _, n in pairs],
        "rejected": {key: reason for key, reason in account.rejected.items() if key not in repeated},
    }
    remaining = PartAccount(**{**asdict(account), **changes})
    table = table.filter(pa.array(keep, type=pa.bool_()))
    (run / stage).write_bytes(name, _parquet(table.replace_schema_metadata({_ACCOUNT_KEY: json.dumps(asdict(remaining))})))
    return remaining


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """Totals of a finished stage. ``seconds`` counts every session's own work, up to its last committed part;
    ``work_seconds`` the same without the time until the first worker was ready (engine start). ``rows_repeated`` rows were in flight
    when a worker or the driver died and were repeated, ``tokens_repeated`` tokens of theirs at most twice."""

    stage: str
    rows_in: int
    rows_out: int
    rejects: dict[str, int]
    tokens: int
    seconds: float
    work_seconds: float
    rows_repeated: int
    tokens_repeated: int

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.work_seconds if self.work_seconds else 0.0


def summarize(run: Folder, stage: str, accounts: Mapping[str, PartAccount], rows_in: int) -> StageSummary:
    rejects: Counter[str] = Counter()
    spans: dict[str, tuple[float, float, float]] = {}
    for account in accounts.values():
        rejects.update(account.rejected.values())
        own = (account.began, account.ready or account.began, account.committed)
        began, ready, committed = spans.get(account.session, own)
        spans[account.session] = (min(began, own[0]), min(ready, own[1]), max(committed, own[2]))
    rows_repeated, tokens_repeated = _repeated(run, stage, accounts)
    return StageSummary(
        stage=stage,
        rows_in=rows_in,
        rows_out=sum(sum(account.rows_per_key) for account in accounts.values()),
        rejects=dict(rejects),
        tokens=sum(account.tokens for account in accounts.values()),
        seconds=sum(committed - began for began, _, committed in spans.values()),
        work_seconds=sum(committed - ready for _, ready, committed in spans.values()),
        rows_repeated=rows_repeated,
        tokens_repeated=tokens_repeated,
    )


def _repeated(run: Folder, stage: str, accounts: Mapping[str, PartAccount]) -> tuple[int, int]:
    """Rows that were lost with a worker or the driver, and the tokens that they have now that they are repeated.

    A row's own attempts are part of its block's: what is not committed with the block is repeated.
    """
    folder = run / stage / ATTEMPTS
    lost: Counter[str] = Counter()
    for file in folder.names(suffix=".json"):  # not what a worker left that was killed while it wrote
        if "-row-" in file:
            continue
        attempt = folder.read_json(file)
        for key in attempt["keys"]:
            lost[key] += attempt["count"]
    tokens = 0
    folder_of_parts = run / stage
    for name, account in accounts.items():
        if lost.keys().isdisjoint(account.keys):
            continue
        rows = iter(_read_part(folder_of_parts, name).to_pylist())
        for key, number in zip(account.keys, account.rows_per_key, strict=True):
            tokens += lost[key] * sum(row.get("num_tokens") or 0 for row in itertools.islice(rows, number))
    return lost.total(), tokens


def contents_fingerprint(run: Folder, stage: str) -> str:
    """Of the rows alone: how they are spread over parts, and when they were made, does not matter."""
    rows = [json.dumps(row, sort_keys=True).encode() for row in read_rows(run, stage)]
    digest = hashlib.sha256()
    for row in sorted(hashlib.sha256(row).digest() for row in rows):
        digest.update(row)
    return digest.hexdigest()[:32]
