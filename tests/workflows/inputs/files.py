"""Small data files for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def write_lines(file: Path, rows: Sequence[object]) -> str:
    """A JSONL file: text as it is, anything else as JSON."""
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(file)
