"""Synthesis as a whole: what it looks at before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.settings import synthesis_settings
from tests.workflows.scripted_loop import configuration
from workflows.stage.folder import Folder
from workflows.stage.running import SetupFailed
from workflows.stage.tracking import Tracker, TrackingConfig
from workflows.synthesis import synthesize

pytestmark = pytest.mark.ray


def test_a_late_stage_that_can_never_run_is_named_before_anything_is_spent(tmp_path: Path, local_ray: None) -> None:
    run = Folder(str(tmp_path / "run"))
    run.create()
    tracker = Tracker(TrackingConfig(uri="off"), job="test", run=run, resolved={})
    settings = synthesis_settings(configuration(tmp_path, run, ["pools.rationales.num_workers=400"]))
    with pytest.raises(SetupFailed, match=r"stage rationales needs \d+(\.\d+)? CPU, of which there are 4; lower"):
        synthesize(run, settings, tracker)
    assert not (tmp_path / "run" / "problems").exists()
    synthesize(run, settings, tracker, until="problems")  # which needs none of it
    assert (tmp_path / "run" / "problems" / "_stage.json").exists()
