"""A stage's dataset: made in this run, or read from another run.

``<run>/<stage>/_link.json`` stands for a stage that was made elsewhere: where it lies, and the fingerprint of its contents, which is
checked whenever a job uses it.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from actors.storage import Folder
from genprm.errors import UserError
from workflows.stage.errors import StageRefused
from workflows.stage.ledger import Ledger

FORMAT = 3
"""Of a stage's folder; stands in its plan and record."""
LINK = "_link.json"
DONE = "_stage.json"
_STAGE_NAME = re.compile(r"[a-z_]+(/[\w.-]+)*")


def dataset(run: Folder, stage: str) -> Folder:
    """The folder with a stage's parts and records."""
    folder = run / stage
    if not folder.exists(LINK):
        return folder
    link = folder.read_json(LINK)
    near = Folder(os.path.normpath(posixpath.join(run.uri, link["relative"]))) if link["relative"] else None
    return near if near is not None and near.exists(DONE) else Folder(link["folder"])


def source(reference: str, stage: str, setting: str) -> Folder:
    """The finished stage that ``RUN`` or ``RUN:STAGE`` names; STAGE is ``stage`` where it is left out. ValueError if it is not there."""
    run, colon, name = reference.rpartition(":")
    if not colon or not _STAGE_NAME.fullmatch(name):
        run, name = reference, stage
    if "://" not in run:
        run = str(Path(run).absolute())
    folder = dataset(Folder(run), name)
    if not folder.exists(DONE):
        raise UserError(f"{setting} = {reference!r}: no finished stage {name} is there; give the directory of a run that has one")
    if folder.read_json(DONE).get("format") != FORMAT:
        raise UserError(f"{setting} = {reference!r}: it was written by an earlier version of this project, which this one can't read")
    return folder


def check_link(run: Folder, stage: str, target: Folder) -> None:
    """StageRefused if ``target`` is gone, or if the run has made this stage itself or read it from elsewhere with other contents."""
    folder = run / stage
    if not target.exists(DONE):
        raise StageRefused(f"{folder.uri} is read from {target.uri}, where no finished stage is; say where it is now: --from RUN:{stage}")
    if folder.exists(DONE) or Ledger.is_begun(folder):
        raise StageRefused(f"{folder.uri} was made in this run; to read {stage} from {target.uri}, delete it, or take another --run-dir")
    if folder.exists(LINK) and folder.read_json(LINK)["contents"] != target.read_json(DONE)["contents"]:
        raise StageRefused(
            f"{folder.uri} was read from {folder.read_json(LINK)['folder']}, and {target.uri} has other contents; delete {folder.uri} "
            "and the stages after it, or take another --run-dir"
        )


def write_link(run: Folder, stage: str, target: Folder) -> None:
    relative = os.path.relpath(target.uri, run.uri) if run.is_local and target.is_local else None
    record = {"folder": target.uri, "relative": relative, "contents": target.read_json(DONE)["contents"]}
    if not (run / stage).exists(LINK) or (run / stage).read_json(LINK) != record:
        (run / stage).write_json(LINK, record)
