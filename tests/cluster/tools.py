"""Checkers that `make tools` installs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.jobs.running import ROOT

BIN = ROOT / ".tools" / "bin"


def tool(name: str) -> str:
    """The path of a checker; the test is skipped where there is none."""
    found = shutil.which(name, path=str(BIN)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make tools")
    return found


def run_tool(name: str, *arguments: str, folder: Path = ROOT) -> str:
    """Its output, after it found nothing wrong."""
    done = subprocess.run([tool(name), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
