"""A sample of bounded size that does not depend on the order of the rows."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from typing import Any


def smallest_hashes(rows: Iterable[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    """The ``number`` rows (all, if there are fewer) whose ids have the smallest hashes, sorted by id; holds no more than these."""
    chosen = heapq.nsmallest(number, rows, key=lambda row: hashlib.sha256(str(row["id"]).encode("utf-8", "surrogatepass")).digest())
    return sorted(chosen, key=lambda row: str(row["id"]))
