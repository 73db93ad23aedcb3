"""Real data beside the repository, which tests may read and skip without."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def shared(name: str) -> Path:
    """The path of a shared data file; skips the test where it is absent."""
    file = SHARED / name
    if not file.is_file():
        pytest.skip(f"needs {name}, which is not beside this repository")
    return file
