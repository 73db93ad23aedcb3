"""All stages that a configuration has, of whatever job."""

from __future__ import annotations

from actors.storage import Folder
from workflows import evaluation, search, synthesis, training
from workflows.config import Config
from workflows.stage.stage import Stage


def every_stage(config: Config, run: Folder) -> list[Stage]:
    """In order: synthesis, training, evaluation, search."""
    return [
        *synthesis.stages(config, run),
        *training.stages(config),
        *evaluation.stages(config, run),
        *search.stages(config, run),
    ]
