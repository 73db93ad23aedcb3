"""What identifies a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from actors.engine import VllmEngineConfig
from actors.models import hub_name, hub_revision, is_hub_name, model_identity

MODEL = Path("genprm/toy/models/base")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_model_that_is_moved_is_the_same_and_one_that_is_changed_is_not(tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(MODEL, moved)
    identity = model_identity(str(MODEL))
    assert model_identity(str(moved)) == identity
    (moved / "README.md").write_text("other words")
    assert model_identity(str(moved)) == identity
    (moved / "chat_template.jinja").write_text("{{ messages }}")
    assert model_identity(str(moved)) != identity


def test_a_change_anywhere_in_a_large_file_of_weights_is_noticed_if_it_is_large(tmp_path: Path) -> None:
    weights = bytearray(40 << 20)
    (tmp_path / "model.safetensors").write_bytes(weights)
    before = model_identity(str(tmp_path))
    weights[20 << 20 : 22 << 20] = b"x" * (2 << 20)
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert model_identity(str(tmp_path)) != before


def test_an_engine_is_identified_by_its_model_and_not_by_where_it_runs() -> None:
    one = VllmEngineConfig(model=str(MODEL), num_gpus=0, kv_cache_gib=1.0)
    other = VllmEngineConfig(model=str(MODEL.absolute()), num_gpus=4, max_num_seqs=8)
    assert one.identity() == other.identity()
    assert VllmEngineConfig(model=str(MODEL), max_model_len=99).identity() != one.identity()


def test_a_hub_model_is_identified_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--owner--cached" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert model_identity("owner/cached") == {"name": "owner/cached", "revision": COMMIT}
    assert model_identity("owner/unknown") == {"name": "owner/unknown", "revision": None}
    assert hub_revision("owner/other", COMMIT) == COMMIT
    assert hub_name(f"owner/other@{COMMIT}") == ("owner/other", COMMIT)


@pytest.mark.parametrize(
    ("name", "expected"), [("Qwen/QwQ-32B", True), ("a/b@v1.0", True), ("/a", False), ("./a/b", False), ("a/b/c", False)]
)
def test_paths_are_no_hub_names(name: str, expected: bool) -> None:
    assert is_hub_name(name) is expected


def test_a_path_where_nothing_is_says_so() -> None:
    with pytest.raises(ValueError, match="no model is there; train it first"):
        model_identity("/nowhere/run/train/genprm/export")
