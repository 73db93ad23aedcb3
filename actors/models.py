"""Where a configured model is: workers do not share the driver's working directory."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def local_model(model: str) -> str:
    """A model's path if it is one, seen from the working directory or from the repository's root; else its hub name."""
    shipped = _ROOT / model
    return str(shipped) if not Path(model).is_dir() and shipped.is_dir() else model
