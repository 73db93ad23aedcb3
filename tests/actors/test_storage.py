"""Folders of file systems and of an S3 server: the same behaviour, and what it costs when either fails."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from actors import storage
from actors.models import model_identity
from actors.storage import Folder, StorageError, local_copy
from workflows.benchmarks.s3_server import Server


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder(str(tmp_path / "run"))
    server: Server = request.getfixturevalue("s3")
    return Folder(server.make_bucket(f"storage-{tmp_path.name.replace('_', '-')[:40]}")) / "runs" / "one"


def test_files_are_written_read_listed_and_deleted(folder: Folder, tmp_path: Path) -> None:
    folder.create()
    assert folder.names() == []
    assert folder.read_bytes_if_there("a") is None
    with pytest.raises(FileNotFoundError):
        folder.read_bytes("a")
    folder.write_bytes("a", b"1")
    folder.write_bytes("a", b"22")
    folder.write_json("inner/b.json", {"x": 1})
    assert (folder.read_bytes("a"), folder.read_json("inner/b.json"), (folder / "inner").read_json("b.json")) == (b"22", {"x": 1}, {"x": 1})
    assert (folder.exists("a"), folder.exists("inner"), folder.exists("c")) == (True, False, False)
    assert folder.names() == ["a"]
    assert (folder / "inner").names(prefix="b", suffix=".json") == ["b.json"]
    with folder.open("a") as stream:
        assert stream.seek(0, os.SEEK_END) == 2
        stream.seek(1)
        assert stream.read(5) == b"2"
    folder.write_new("new", b"x")
    with pytest.raises(FileExistsError):
        folder.write_new("new", b"y")
    assert folder.read_bytes("new") == b"x"
    (tmp_path / "big").write_bytes(os.urandom(12 << 20))
    folder.upload("inner/big", tmp_path / "big")
    folder.download(tmp_path / "copy")
    assert (tmp_path / "copy" / "inner" / "big").read_bytes() == (tmp_path / "big").read_bytes()
    folder.delete("new")
    folder.delete("new")
    folder.delete_folder("inner")
    folder.delete_folder("inner")
    assert (folder.names(), (folder / "inner").names()) == (["a"], [])


def test_a_file_uri_is_local(tmp_path: Path) -> None:
    folder = Folder(f"file://{tmp_path}") / "x"
    assert (folder.uri, folder.is_local) == (f"{tmp_path}/x", True)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOCAL_PAUSES_S", (0.01, 0.01))
    folder = Folder(str(tmp_path))
    tries = []

    def full(self: Path, data: bytes) -> int:
        tries.append(self)
        with self.open("wb") as stream:
            stream.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write_bytes("part", b"12345")
    assert len(tries) == 3
    assert os.listdir(tmp_path) == []


def test_an_object_is_replaced_by_one_of_two_writers(s3: Server) -> None:
    folder = Folder(s3.make_bucket("replace"))
    tag = folder.write_new("lock", b"1")
    assert folder.tag("lock") == tag
    newer = folder.replace("lock", b"2", tag)
    with pytest.raises(FileExistsError):
        folder.replace("lock", b"3", tag)
    assert (folder.read_bytes("lock"), folder.tag("lock")) == (b"2", newer)


def test_a_server_that_fails_for_a_moment_is_asked_again(s3: Server) -> None:
    folder = Folder(s3.make_bucket("moment"))
    s3.control("503")
    timer = threading.Timer(3.0, lambda: s3.control("ok"))
    timer.start()
    began = time.monotonic()
    folder.write_bytes("a", b"1")
    assert time.monotonic() - began > 2.5
    assert folder.read_bytes("a") == b"1"
    timer.join()


def test_a_server_that_fails_for_long_is_an_error_of_storage(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.make_bucket("long")
    monkeypatch.setattr(storage, "PATIENCE_S", 1.0)
    monkeypatch.setattr(storage, "_clients", {})
    storage._remote.cache_clear()
    s3.control("503")
    try:
        with pytest.raises(StorageError, match="s3://long/a"):
            Folder(bucket).write_bytes("a", b"1")
    finally:
        s3.control("ok")
        storage._remote.cache_clear()


def test_what_is_in_a_store_is_copied_once_and_again_when_it_changed(s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = Folder(s3.make_bucket("copies"))
    folder.write_bytes("data/rows.jsonl", b"1\n")
    one = local_copy(f"{folder.uri}/data/rows.jsonl")
    before = s3.control("counts").get("GET", 0)
    assert local_copy(f"{folder.uri}/data/rows.jsonl") == one
    assert s3.control("counts").get("GET", 0) == before
    assert (one.name, one.read_bytes()) == ("rows.jsonl", b"1\n")
    assert (local_copy(f"{folder.uri}/data") / "rows.jsonl").read_bytes() == b"1\n"
    folder.write_bytes("data/rows.jsonl", b"2\n")
    assert local_copy(f"{folder.uri}/data/rows.jsonl").read_bytes() == b"2\n"
    with pytest.raises(FileNotFoundError):
        local_copy(f"{folder.uri}/nothing")


def test_a_model_is_the_same_wherever_it_is(s3: Server) -> None:
    folder = Folder(s3.make_bucket("models"))
    folder.upload_folder("base", Path("genprm/toy/models/base"))
    assert model_identity(f"{folder.uri}/base") == model_identity("genprm/toy/models/base")
