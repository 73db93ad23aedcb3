"""The images are made of what is there, in the form that hadolint asks for."""

from __future__ import annotations

import re

import pytest

from tests.cluster.tools import run_tool
from tests.jobs.running import ROOT

DOCKERFILES = ("Dockerfile", "executor.Dockerfile")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    assert run_tool("hadolint", f"cluster/images/{name}") == ""


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_is_there_and_the_user_is_an_ordinary_one(name: str) -> None:
    text = (ROOT / "cluster" / "images" / name).read_text()
    copied = re.findall(r"^COPY (\S+) ", text, re.MULTILINE)
    assert len(copied) >= 4
    for path in copied:
        names = [path.replace("${LOCK}", lock) for lock in ("cpu", "gpu")] if "${LOCK}" in path else [path]
        assert all((ROOT / one).exists() for one in names), path
    assert text.rstrip().endswith("USER 1000")
