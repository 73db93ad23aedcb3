"""Models that a run trains itself, and those that must be there already."""

from __future__ import annotations

from pathlib import Path

from actors.engine.config import EngineConfig, VllmEngineConfig
from actors.models import is_hub_name, model_folder
from actors.storage import Folder
from genprm.errors import UserError


def trained_in(run: Folder, engine: EngineConfig) -> tuple[str, ...]:
    """The training stage of this run whose export the engine serves, if it is one: ``{run}/train/NAME/export``."""
    if not isinstance(engine, VllmEngineConfig):
        return ()
    prefix = f"{run.uri}/train/"
    if not engine.model.startswith(prefix):
        return ()
    return (f"train/{engine.model.removeprefix(prefix).partition('/')[0]}",)


def check_model(setting: str, model: str, run: Folder) -> None:
    """ValueError if a model that is given as a path is not there; one that the run itself trains is left out."""
    if model.startswith(f"{run.uri}/"):
        return
    looks_local = model.startswith(("/", ".", "~")) or Path(model).exists() or not is_hub_name(model)
    folder = model_folder(model) if looks_local else None
    if looks_local and (folder is None or not folder.exists("config.json")):
        raise UserError(f"{setting} = {model!r}: no model is there (no config.json); give a model's folder or hub name")
