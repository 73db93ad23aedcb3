"""A dataset's rows for the driver, read in a thread, a little ahead."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import pyarrow as pa


class Rows:
    """The rows of a Ray Data dataset, ``ahead`` of them in a table; `take` never waits for more."""

    def __init__(self, batches: Iterable[pa.Table], ahead: int) -> None:
        self._tables: queue.Queue[pa.Table | BaseException | None] = queue.Queue(maxsize=2)
        self._rows: deque[dict[str, Any]] = deque()
        self._over = threading.Event()
        self.is_exhausted = False
        self._thread = threading.Thread(target=self._read, args=(batches, ahead), name="rows of a stage", daemon=True)
        self._thread.start()

    def _read(self, batches: Iterable[pa.Table], ahead: int) -> None:
        try:
            for table in batches:
                for first in range(0, len(table), ahead):
                    self._put(table.slice(first, ahead))
                if self._over.is_set():
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: pa.Table | BaseException | None) -> None:
        while not self._over.is_set():
            try:
                self._tables.put(item, timeout=0.5)
                return
            except queue.Full:
                continue

    def take(self, number: int) -> list[dict[str, Any]]:
        """At most so many rows, those that are there."""
        while len(self._rows) < number and not self.is_exhausted:
            try:
                item = self._tables.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self.is_exhausted = True
            elif isinstance(item, BaseException):
                raise item
            else:
                self._rows.extend(item.to_pylist())
        return [self._rows.popleft() for _ in range(min(number, len(self._rows)))]

    @property
    def is_empty(self) -> bool:
        return self.is_exhausted and not self._rows

    def close(self) -> None:
        self._over.set()
