"""Imports without garbage collection."""

from __future__ import annotations

import gc

import pytest

from actors.imports import without_collection


def test_collection_is_paused_and_resumed_and_earlier_objects_are_not_looked_at_again() -> None:
    before = gc.get_freeze_count()
    with without_collection():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]  # type: ignore[var-annotated]
    assert gc.isenabled()
    assert gc.get_freeze_count() - before >= len(kept)


def test_a_failed_import_resumes_it_too() -> None:
    with pytest.raises(ImportError), without_collection():
        raise ImportError("no such library")
    assert gc.isenabled()
