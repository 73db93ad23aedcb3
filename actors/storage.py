"""A folder on a file system or in an object store: local paths (NFS among them), s3://, gs://, az://.

Object stores are reached through obstore: a file is one PUT, made whole or not at all, and a name can be taken by one writer only.
What fails for the moment is tried again, for as long as `PATIENCE_S`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import posixpath
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import from_url

from genprm.errors import UserError

PATIENCE_S = 180.0
"""How long an object store that fails, or is slow, is asked again."""
READ_BYTES = 1 << 20
"""Read of an object at a time."""
LOCAL_PAUSES_S = (0.1, 0.5, 2.0)
"""Before a failed local write is tried again."""
_FINAL = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL}
"""Local errors that the next try would meet again."""

T = TypeVar("T")


class StorageError(OSError):
    """An object store failed for longer than `PATIENCE_S`, or refuses."""


@dataclass(frozen=True)
class Folder:
    """A folder by its URI or local path; cheap to make and to pickle. OSError where storage fails: what was there before still is."""

    uri: str

    def __post_init__(self) -> None:
        if self.uri.startswith("file://"):
            object.__setattr__(self, "uri", self.uri.removeprefix("file://"))

    def __truediv__(self, name: str) -> Folder:
        return Folder(posixpath.join(self.uri, name))

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def _store(self) -> _Store:
        return _Local(str(Path(self.uri).absolute())) if self.is_local else _remote(self.uri)

    def create(self) -> None:
        """Make the folder; ValueError with the remedy if that is not allowed."""
        try:
            self.write_bytes("_writable", b"")
            self.delete("_writable")
        except OSError as error:
            raise UserError(f"--run-dir: can't write to {self.uri!r} ({error}); take another folder or change its permissions") from error

    def names(self, prefix: str = "", suffix: str = "") -> list[str]:
        """Names of the files directly in the folder, sorted; none if the folder is not there."""
        return sorted(name for name in self._store.names() if name.startswith(prefix) and name.endswith(suffix))

    def path_of(self, name: str) -> str:
        """What Ray Data reads: the URI of a file in this folder."""
        location = posixpath.join(self.uri, name)
        return str(Path(location).absolute()) if self.is_local else location

    def exists(self, name: str) -> bool:
        return self._store.exists(name)

    def read_bytes(self, name: str) -> bytes:
        """FileNotFoundError if it is not there."""
        return self._store.read(name)

    def read_bytes_if_there(self, name: str) -> bytes | None:
        try:
            return self._store.read(name)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> IO[bytes]:
        """A file to read from anywhere in it."""
        return self._store.open(name)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Whole or not at all."""
        self._store.write(name, data)

    def write_new(self, name: str, data: bytes) -> str:
        """The same for a name that nothing has, else FileExistsError; gives the tag of what was written."""
        return self._store.write_new(name, data)

    def replace(self, name: str, data: bytes, tag: str) -> str:
        """Replace what `write_new` or this wrote with ``tag``; FileExistsError if another writer was faster. Object stores only."""
        return self._store.replace(name, data, tag)

    def tag(self, name: str) -> str:
        """What changes whenever a file of an object store is written; FileNotFoundError if it is not there."""
        return self._store.tag(name)

    def version(self) -> str:
        """What changes when a file below a folder of an object store does; FileNotFoundError if there is none."""
        return self._store.version()

    def upload(self, name: str, file: Path) -> None:
        """Copy a local file into the folder, whole or not at all."""
        self._store.upload(name, file)

    def upload_folder(self, name: str, folder: Path) -> None:
        """Copy a local folder with all that is in it; each file whole, or not at all."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.upload(posixpath.join(name, file.relative_to(folder).as_posix()), file)

    def download(self, target: Path) -> None:
        """Copy all files of the folder, and of those in it, into a local one."""
        self._store.download(target)

    def delete(self, name: str) -> None:
        """Nothing happens if it is not there."""
        self._store.delete(name)

    def delete_folder(self, name: str) -> None:
        """Delete a folder with all that is in it; nothing happens if it is not there."""
        self._store.delete_folder(name)

    def read_json(self, name: str) -> Any:
        return json.loads(self.read_bytes(name))

    def write_json(self, name: str, value: Any) -> None:
        self.write_bytes(name, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")


def is_remote(uri: str) -> bool:
    """Whether it lies in an object store."""
    return "://" in uri and not uri.startswith("file://")


def local_copy(uri: str) -> Path:
    """This machine's copy of a file or folder in an object store; made when it is first asked for, and again when it was written again.

    FileNotFoundError if nothing is there.
    """
    parent, _, name = uri.rstrip("/").rpartition("/")
    folder = Folder(parent)
    is_file = folder.exists(name)
    version = folder.tag(name) if is_file else Folder(uri).version()
    key = hashlib.sha256(f"{uri}\n{version}".encode()).hexdigest()[:32]
    target = Path(tempfile.gettempdir(), f"genprm-copies-{os.getuid()}", key, name)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = target.with_name(f"{name}.{uuid.uuid4().hex[:8]}")
        if is_file:
            beside.write_bytes(folder.read_bytes(name))
        else:
            Folder(uri).download(beside)
        try:
            beside.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(beside)
    return target


class _Local:
    """A folder of a file system. Files are written beside their place and moved there."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _at(self, name: str) -> str:
        return os.path.join(self._path, name)

    def names(self) -> list[str]:
        try:
            with os.scandir(self._path) as entries:
                return [entry.name for entry in entries if entry.is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, name: str) -> bool:
        return os.path.isfile(self._at(name))

    def read(self, name: str) -> bytes:
        return _again(lambda: Path(self._at(name)).read_bytes())

    def open(self, name: str) -> IO[bytes]:
        return open(self._at(name), "rb")

    def write(self, name: str, data: bytes) -> None:
        _again(lambda: self._put(name, lambda path: Path(path).write_bytes(data), os.replace))

    def write_new(self, name: str, data: bytes) -> str:
        _again(lambda: self._put(name, lambda path: Path(path).write_bytes(data), os.link))
        return ""

    def replace(self, name: str, data: bytes, tag: str) -> str:
        raise NotImplementedError("file systems are locked instead")

    def tag(self, name: str) -> str:
        raise NotImplementedError("file systems are locked instead")

    def version(self) -> str:
        raise NotImplementedError("files of a file system need no copy")

    def upload(self, name: str, file: Path) -> None:
        _again(lambda: self._put(name, lambda path: shutil.copyfile(file, path), os.replace))

    def _put(self, name: str, write: Callable[[str], Any], move: Callable[[str, str], None]) -> None:
        target = self._at(name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        beside = f"{target}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            write(beside)
            move(beside, target)
        finally:  # what a full disk cut off would keep it full
            _unlink(beside)

    def download(self, target: Path) -> None:
        shutil.copytree(self._path, target, dirs_exist_ok=True)

    def delete(self, name: str) -> None:
        _unlink(self._at(name))

    def delete_folder(self, name: str) -> None:
        shutil.rmtree(self._at(name), ignore_errors=True)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _again(action: Callable[[], T]) -> T:
    """Try an operation of a file system again where it may succeed: NFS has moments, and disks are full for a while."""
    for pause in LOCAL_PAUSES_S:
        try:
            return action()
        except OSError as error:
            if error.errno in _FINAL:
                raise
        time.sleep(pause)
    return action()


class _Remote:
    """A folder of an object store."""

    def __init__(self, uri: str) -> None:
        scheme, _, rest = uri.partition("://")
        bucket, _, self._prefix = rest.partition("/")
        self._client = _client(f"{scheme}://{bucket}", os.getpid())
        self._uri = uri

    def _key(self, name: str) -> str:
        return posixpath.join(self._prefix, name) if name else self._prefix

    def _ask(self, name: str, action: Callable[[str], T]) -> T:
        try:
            return action(self._key(name))
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(errno.ENOENT, "no such object", f"{self._uri}/{name}") from error
        except (AlreadyExistsError, PreconditionError) as error:
            raise FileExistsError(errno.EEXIST, "another writer was faster", f"{self._uri}/{name}") from error
        except BaseError as error:
            raise StorageError(f"{self._uri}/{name}: {str(error).splitlines()[0][:500]}") from error

    def names(self) -> list[str]:
        listed = self._ask("", lambda key: obstore.list_with_delimiter(self._client, f"{key}/" if key else None))
        return [posixpath.basename(item["path"]) for item in listed["objects"]]

    def exists(self, name: str) -> bool:
        try:
            self._ask(name, lambda key: obstore.head(self._client, key))
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        return self._ask(name, lambda key: bytes(obstore.get(self._client, key).bytes()))

    def open(self, name: str) -> IO[bytes]:
        return io.BufferedReader(_Reader(self._ask(name, lambda key: obstore.open_reader(self._client, key))), READ_BYTES)

    def write(self, name: str, data: bytes) -> None:
        self._ask(name, lambda key: obstore.put(self._client, key, data))

    def write_new(self, name: str, data: bytes) -> str:
        return str(self._ask(name, lambda key: obstore.put(self._client, key, data, mode="create"))["e_tag"])

    def replace(self, name: str, data: bytes, tag: str) -> str:
        return str(self._ask(name, lambda key: obstore.put(self._client, key, data, mode={"e_tag": tag}))["e_tag"])

    def tag(self, name: str) -> str:
        return str(self._ask(name, lambda key: obstore.head(self._client, key))["e_tag"])

    def version(self) -> str:
        found = sorted(f"{item['path']} {item['e_tag']} {item['size']}" for item in self._items(""))
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no such object or folder", self._uri)
        return hashlib.sha256("\n".join(found).encode()).hexdigest()

    def upload(self, name: str, file: Path) -> None:
        self._ask(name, lambda key: obstore.put(self._client, key, file))

    def download(self, target: Path) -> None:
        for key in self._keys(""):
            file = target / posixpath.relpath(key, self._prefix or ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as stream:
                for chunk in self._ask(key, lambda _, key=key: obstore.get(self._client, key)):  # type: ignore[misc]
                    stream.write(chunk)

    def delete(self, name: str) -> None:
        try:
            self._ask(name, lambda key: obstore.delete(self._client, key))
        except FileNotFoundError:
            pass

    def delete_folder(self, name: str) -> None:
        keys = self._keys(name)
        for first in range(0, len(keys), 1000):
            some = keys[first : first + 1000]
            self._ask(name, lambda _, some=some: obstore.delete(self._client, some))  # type: ignore[misc]

    def _keys(self, name: str) -> list[str]:
        return [item["path"] for item in self._items(name)]

    def _items(self, name: str) -> list[Any]:
        return [item for page in self._ask(name, lambda key: list(obstore.list(self._client, f"{key}/"))) for item in page]


class _Reader(io.RawIOBase):
    """An object as a file of Python's."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readinto(self, buffer: Any) -> int:
        try:
            data = bytes(self._reader.read(len(buffer)))
        except BaseError as error:
            raise StorageError(str(error).splitlines()[0][:500]) from error
        buffer[: len(data)] = data
        return len(data)


_Store = _Local | _Remote


@cache
def _remote(uri: str) -> _Remote:
    return _Remote(uri)


_making = threading.Lock()
_clients: dict[tuple[str, int], Any] = {}


def _client(bucket: str, process: int) -> Any:
    """The one client of this process for a bucket; credentials, region and endpoint are those of the environment."""
    with _making:
        if (bucket, process) not in _clients:
            _clients[bucket, process] = from_url(
                bucket,
                client_options={"allow_http": True, "timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)},
                retry_config={
                    "max_retries": 1000,
                    "retry_timeout": timedelta(seconds=PATIENCE_S),
                    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
                },
            )
        return _clients[bucket, process]
