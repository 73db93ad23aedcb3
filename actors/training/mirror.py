"""Where a trainer's files are: in the run's folder itself, or, in an object store, in a local folder that is copied there and back."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from actors.storage import Folder

LATEST = "latest"


class Mirror:
    """``local`` is where DeepSpeed reads and writes; one on each node, shared by its processes.

    With a folder on a file system nothing is copied. ``copies`` is true in one process of each node.
    """

    def __init__(self, folder: Folder, *, copies: bool) -> None:
        self._folder = folder
        self._copies = copies and not folder.is_local
        name = hashlib.sha256(folder.uri.encode()).hexdigest()[:16]
        self.local = Path(folder.uri) if folder.is_local else Path(tempfile.gettempdir(), f"genprm-training-{os.getuid()}", name)

    def fetch(self, checkpoints: str, log: str) -> None:
        """Copy the newest checkpoint and the log here. The other processes of the node must wait for it."""
        if not self._copies:
            return
        shutil.rmtree(self.local, ignore_errors=True)
        self.local.mkdir(parents=True)
        if (lines := self._folder.read_bytes_if_there(log)) is not None:
            (self.local / log).write_bytes(lines)
        if (latest := (self._folder / checkpoints).read_bytes_if_there(LATEST)) is not None:
            tag = latest.decode().strip()
            (self._folder / checkpoints / tag).download(self.local / checkpoints / tag)
            (self.local / checkpoints / LATEST).write_bytes(latest)

    def push_checkpoint(self, checkpoints: str, tag: str) -> None:
        """Copy this node's files of a checkpoint. ``latest`` follows when all nodes are through (`push_latest`)."""
        if self._copies:
            (self._folder / checkpoints).upload_folder(tag, self.local / checkpoints / tag)

    def push_latest(self, checkpoints: str, log: str) -> None:
        """Name the newest checkpoint as complete; and copy the log. By one process of all."""
        if self._copies:
            self.push(log)
            (self._folder / checkpoints).upload(LATEST, self.local / checkpoints / LATEST)

    def push(self, name: str) -> None:
        """Copy a file or folder."""
        if self._copies and (self.local / name).is_dir():
            self._folder.upload_folder(name, self.local / name)
        elif self._copies and (self.local / name).is_file():
            self._folder.upload(name, self.local / name)
