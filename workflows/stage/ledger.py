"""The record of what a stage has done: written by the driver alone, read on resume; nothing is listed and no data are read for it.

``_ledger/00000000.jsonl``, ``00000001.jsonl``, ... each hold some entries, in order; the first number that is missing is the end. When a
stage is finished, ``merged.jsonl`` takes the place of those before the number that its first line names. Entries:

- a commit: a part, the input keys that it finishes, counts, and the sum of its rows' hashes (`Commit`);
- ``retry``: rejected keys that are to be processed again, with the reasons that no longer count;
- ``compacted``: files that take the place of all parts before;
- ``cost``: what workers and services held since the last such entry, and tries of rows that failed, by reason.

A part that no entry names does not exist: whatever wrote it died before the driver heard of it, and its rows are processed again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from actors.storage import Folder
from workflows.stage.errors import StageFailed

LEDGER = "_ledger"
MERGED = "merged.jsonl"
FLUSH_EVERY_S = 1.0
"""Entries that come faster are written together."""
COST_EVERY_S = 30.0
"""Costs alone, without a commit, are written so often."""
READ_AHEAD = 32
MODULUS = 1 << 128


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What a part stands for: ``keys`` are the input rows that it finishes; ``rejected`` gives the reason of each one that was
    rejected. A stage that is made in one go has no keys, only their number ``rows_in``.

    ``rows_hash`` is the sum of the output rows' hashes (`row_hash`), which no order changes, ``num_bytes`` the part's size. ``session``
    is the run of the job that wrote it; ``began`` when that session's stage began, ``ready`` when the worker was built, ``committed``
    when the part was written, all in seconds since the epoch. ``versions`` are those of the project and of the libraries that decide
    results, where the worker ran.
    """

    part: str
    rows_in: int
    rows_out: int
    keys: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    rows_hash: int = 0
    num_bytes: int = 0
    session: str = ""
    began: float = 0.0
    ready: float = 0.0
    committed: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file with output rows, and what its path begins with in the stage's folder; with ``num_rejects`` its rejects beside it."""

    name: str
    num_rows: int
    num_bytes: int
    num_rejects: int = 0


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What workers and services held, whether they computed or not: CPU seconds and GPU seconds."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(cpu_s=self.cpu_s + other.cpu_s, gpu_s=self.gpu_s + other.gpu_s)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What was in flight when a worker or the driver died, and was done again: rows, and their tokens where these are known."""

    rows: int = 0
    tokens: int = 0


def row_hash(row: Mapping[str, Any]) -> int:
    """Of the row's values, as JSON with sorted names."""
    return int.from_bytes(hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest()[:16], "big")


def key_hash(key: str) -> bytes:
    """16 bytes that stand for a key."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Ledger:
    """A stage's commits and their totals. Holds 16 bytes a key, and a name for each part, never rows."""

    def __init__(self, folder: Folder) -> None:
        self._stage = folder
        self._folder = folder / LEDGER
        self._first = self._next = 0
        self._waiting: list[str] = []
        self._flushed = time.monotonic()
        self.done: set[bytes] = set()
        """Hashes of the finished keys."""
        self.files: dict[str, File] = {}
        """The files with the rows so far, by name, in the order in which they were committed."""
        self.retracted: dict[str, set[str]] = {}
        """Of each file the keys whose rejects no longer count."""
        self.rejects: Counter[str] = Counter()
        self.generation = 0
        """How often the parts were compacted."""
        self.num_commits = self.rows_in = self.rows_out = self.tokens = self.rows_hash = 0
        self.lost = Loss()
        self.usage = Usage()
        self.failures: Counter[str] = Counter()
        """Tries of rows that failed and were made again, by reason."""
        self._unwritten: tuple[Usage, Counter[str]] = Usage(), Counter()
        self.spans: dict[str, tuple[float, float, float]] = {}
        """When each session began, had its first worker ready, and committed last."""
        self.versions: dict[str, set[str]] = {}
        self._in_flight: dict[str, int] = {}

    @classmethod
    def read(cls, folder: Folder) -> Ledger:
        """What the folder's ledger holds; an empty one where there is none."""
        ledger = cls(folder)
        merged = ledger._folder.read_bytes_if_there(MERGED)
        if merged is not None:
            head, *lines = merged.splitlines()
            for line in lines:
                ledger._take(json.loads(line))
            ledger._first = ledger._next = int(json.loads(head)["merged"])
        with ThreadPoolExecutor(max_workers=READ_AHEAD) as pool:
            while True:
                names = [_segment(ledger._next + ahead) for ahead in range(READ_AHEAD if ledger._next else 1)]
                for data in pool.map(ledger._folder.read_bytes_if_there, names):
                    if data is None:
                        ledger._count_rows_lost_with_driver()
                        return ledger
                    for line in data.splitlines():
                        ledger._take(json.loads(line))
                    ledger._next += 1

    @staticmethod
    def is_begun(folder: Folder) -> bool:
        return (folder / LEDGER).exists(_segment(0)) or (folder / LEDGER).exists(MERGED)

    def commit(self, commit: Commit, *, in_flight: int = 0) -> None:
        """Add a part; it counts as soon as it is flushed. ``in_flight`` rows are being processed just then, which a death would lose."""
        self._add({"commit": {**asdict(commit), "rows_hash": f"{commit.rows_hash:032x}"}, "in_flight": in_flight})

    def retract(self, beginning: str = "") -> int:
        """Have the rows processed again that are rejected for reasons that begin so; gives their number."""
        rejected: dict[str, str] = {}
        for line in self._written():
            entry = json.loads(line)
            if "commit" in entry:
                rejected |= entry["commit"]["rejected"]
            for key in entry.get("retry", {}):
                rejected.pop(key, None)
        chosen = {key: reason for key, reason in rejected.items() if reason.startswith(beginning)}
        if chosen:
            self._add({"retry": chosen})
            self.flush()
        return len(chosen)

    def lose(self, loss: Loss) -> None:
        """Count rows that are done again."""
        self._add({"lost": asdict(loss)})

    def use(self, usage: Usage) -> None:
        """Add to what was held."""
        self.usage += usage
        self._unwritten = self._unwritten[0] + usage, self._unwritten[1]

    def fail(self, reason: str) -> None:
        """Count a try of a row that failed and is made again."""
        self.failures[reason] += 1
        self._unwritten[1][reason] += 1

    def compact(self, files: Iterable[File]) -> None:
        """Name the files that take the place of all there are."""
        self._add({"compacted": [asdict(file) for file in files]})
        self.flush()

    def _written(self) -> list[bytes]:
        """The entries that are written, in order."""
        merged = self._folder.read_bytes_if_there(MERGED) if self._first else None
        lines = merged.splitlines()[1:] if merged is not None else []
        for number in range(self._first, self._next):
            lines += self._folder.read_bytes(_segment(number)).splitlines()
        return lines

    def merge(self) -> None:
        """Make one file of all; what dies on the way loses nothing."""
        self.flush()
        before = range(self._first, self._next)
        if len(before) > 1:
            head = json.dumps({"merged": self._next}).encode()
            self._folder.write_bytes(MERGED, b"".join(line + b"\n" for line in (head, *self._written())))
            self._first = self._next
            for number in before:
                self._folder.delete(_segment(number))

    def close(self) -> None:
        """Write what is not written yet; nothing is in flight from here on."""
        if self._in_flight:
            self._add({"closed": True})
        self.flush()

    def flush(self, *, if_due: bool = False) -> None:
        """Write the entries that wait; with ``if_due`` only if the last ones were not written just now."""
        if if_due and time.monotonic() - self._flushed < (FLUSH_EVERY_S if self._waiting else COST_EVERY_S):
            return
        usage, failures = self._unwritten
        if usage != Usage() or failures:
            cost = {"cost": {"usage": asdict(usage), "failures": failures}}
            self._waiting.append(json.dumps(cost, separators=(",", ":")))
            self._unwritten = Usage(), Counter()
        if not self._waiting:
            return
        data = "".join(f"{line}\n" for line in self._waiting).encode()
        try:
            self._folder.write_new(_segment(self._next), data)
        except FileExistsError as error:
            if self._folder.read_bytes(_segment(self._next)) != data:  # else the answer was lost, and the write made again
                raise StageFailed(f"{self._folder.uri}: another job writes there; wait for it, or take another --run-dir") from error
        self._next += 1
        self._waiting.clear()
        self._flushed = time.monotonic()

    def clear(self) -> None:
        """Forget all: the stage begins again."""
        left = [name for name in self._folder.names() if name < _segment(self._first)]  # by a merge that was cut short
        behind = [_segment(number) for number in reversed(range(self._first, self._next))]
        for name in (*left, *behind, MERGED):  # in this order: what is left half-way is read as what it was some time before
            self._folder.delete(name)
        self.__init__(self._stage)  # type: ignore[misc]

    def _add(self, entry: dict[str, Any]) -> None:
        self._waiting.append(json.dumps(entry, separators=(",", ":")))
        self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        if "commit" in entry:
            fields = entry["commit"]
            self._take_commit(Commit(**{**fields, "rows_hash": int(fields["rows_hash"], 16)}), entry.get("in_flight", 0))
        elif "retry" in entry:
            for key, reason in entry["retry"].items():
                self.done.discard(key_hash(key))
                self.rejects[reason] -= 1
                self.rows_in -= 1
            self.rejects = +self.rejects
            for file in self.files.values():
                if file.num_rejects:
                    self.retracted.setdefault(file.name, set()).update(entry["retry"])
        elif "lost" in entry:
            self.lost = Loss(rows=self.lost.rows + entry["lost"]["rows"], tokens=self.lost.tokens + entry["lost"]["tokens"])
        elif "compacted" in entry:
            self.files = {file["name"]: File(**file) for file in entry["compacted"]}
            self.retracted = {}
            self.generation += 1
        elif "cost" in entry:
            self.usage += Usage(**entry["cost"]["usage"])
            self.failures.update(entry["cost"]["failures"])
        elif "closed" in entry:
            self._in_flight.clear()

    def _take_commit(self, commit: Commit, in_flight: int) -> None:
        self.done.update(map(key_hash, commit.keys))
        self.files[commit.part] = File(
            name=commit.part, num_rows=commit.rows_out, num_bytes=commit.num_bytes, num_rejects=len(commit.rejected)
        )
        self.rejects.update(commit.rejected.values())
        self.num_commits += 1
        self.rows_in += commit.rows_in
        self.rows_out += commit.rows_out
        self.tokens += commit.tokens
        self.rows_hash = (self.rows_hash + commit.rows_hash) % MODULUS
        own = (commit.began, commit.ready or commit.began, commit.committed)
        began, ready, committed = self.spans.get(commit.session, own)
        self.spans[commit.session] = (min(began, own[0]), min(ready, own[1]), max(committed, own[2]))
        for name, number in commit.versions.items():
            self.versions.setdefault(name, set()).add(number)
        self._in_flight = {commit.session: in_flight} if in_flight else {}

    def _count_rows_lost_with_driver(self) -> None:
        """The rows that were in flight at its last commit, if it did not come to its end."""
        rows = sum(self._in_flight.values())
        if rows:
            tokens = rows * self.tokens // max(1, self.rows_in)
            self._in_flight.clear()
            self._add({"lost": asdict(Loss(rows=rows, tokens=tokens))})
            self._add({"closed": True})

    def num_rejects(self, beginning: str = "") -> int:
        """Rows that are rejected for reasons that begin so."""
        return sum(number for reason, number in self.rejects.items() if reason.startswith(beginning))

    @property
    def contents(self) -> str:
        """A fingerprint of the output rows: how they are spread over files, and when they were made, does not matter."""
        return f"{self.rows_out:x}-{self.rows_hash:032x}"


def _segment(number: int) -> str:
    return f"{number:08}.jsonl"
