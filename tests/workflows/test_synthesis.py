"""The stages of a whole run: what is needed, what is refused, what a change of each setting costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.storage import Folder
from tests.workflows.scripted_loop import all_stages, configuration
from workflows import synthesis
from workflows.stage.errors import SetupFailed
from workflows.stage.graph import run_stages
from workflows.stage.run import Run

pytestmark = pytest.mark.ray


def test_a_late_stage_that_can_never_run_is_named_before_anything_is_spent(tmp_path: Path, local_ray: None) -> None:
    run = Run.untracked(Folder(str(tmp_path / "run")))
    config = configuration(tmp_path, run.folder, ["pools.rationales.num_workers=400"])
    stages = synthesis.stages(config, run.folder)
    with pytest.raises(SetupFailed, match=r"stage rationales needs \d+(\.\d+)? CPU, of which there are 8; lower"):
        run_stages(stages, run, ["conversations/rpe"])
    assert not (tmp_path / "run").exists()
    run_stages(stages, run, ["problems"])  # which needs none of it
    assert (tmp_path / "run" / "problems" / "_stage.json").exists()


def test_all_stages_of_a_run_have_names_of_their_own(tmp_path: Path) -> None:
    run = Folder(str(tmp_path / "run"))
    names = [stage.name for stage in all_stages(configuration(tmp_path, run), run)]
    assert len(set(names)) == len(names)
