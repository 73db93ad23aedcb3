"""A folder on any file system that PyArrow can write: local paths, s3://, gs://."""

from __future__ import annotations

import json
import posixpath
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs


@dataclass(frozen=True)
class Folder:
    """A folder by its URI or local path; cheap to make and to pickle."""

    uri: str

    def __truediv__(self, name: str) -> Folder:
        return Folder(posixpath.join(self.uri, name))

    def _resolve(self, name: str = "") -> tuple[pafs.FileSystem, str]:
        location = posixpath.join(self.uri, name) if name else self.uri
        if "://" not in location:
            return pafs.LocalFileSystem(), str(Path(location).absolute())
        return pafs.FileSystem.from_uri(location)

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    def create(self) -> None:
        """Make the folder; ValueError with the remedy if that is not allowed."""
        filesystem, path = self._resolve()
        try:
            filesystem.create_dir(path, recursive=True)
            self.write_bytes("_writable", b"")
            self.delete("_writable")
        except OSError as error:
            raise ValueError(f"--run-dir: can't write to {self.uri!r} ({error}); take another folder or change its permissions") from error

    def names(self, prefix: str = "", suffix: str = "") -> list[str]:
        """Names of the files directly in the folder, sorted; none if the folder is not there."""
        filesystem, path = self._resolve()
        selector = pafs.FileSelector(path, allow_not_found=True)
        found = [info.base_name for info in filesystem.get_file_info(selector) if info.type == pafs.FileType.File]
        return sorted(name for name in found if name.startswith(prefix) and name.endswith(suffix))

    def path_of(self, name: str) -> str:
        """What Ray Data reads: the URI of a file in this folder."""
        location = posixpath.join(self.uri, name)
        return str(Path(location).absolute()) if self.is_local else location

    def exists(self, name: str) -> bool:
        filesystem, path = self._resolve(name)
        return bool(filesystem.get_file_info(path).type == pafs.FileType.File)

    def read_bytes(self, name: str) -> bytes:
        filesystem, path = self._resolve(name)
        with filesystem.open_input_file(path) as stream:
            data: bytes = stream.read()
        return data

    def write_bytes(self, name: str, data: bytes) -> None:
        """Whole or not at all: object stores commit at the end of a write, local files are moved into place."""
        filesystem, path = self._resolve(name)
        target = path if not self.is_local else f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        filesystem.create_dir(posixpath.dirname(path), recursive=True)
        with filesystem.open_output_stream(target) as stream:
            stream.write(data)
        if self.is_local:
            filesystem.move(target, path)

    def delete(self, name: str) -> None:
        filesystem, path = self._resolve(name)
        filesystem.delete_file(path)

    def read_json(self, name: str) -> Any:
        return json.loads(self.read_bytes(name))

    def write_json(self, name: str, value: Any) -> None:
        self.write_bytes(name, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")
