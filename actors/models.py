"""Where a configured model is, and what identifies it: a local folder by its contents, a model of the hub by its revision."""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import IO, Any

from actors.storage import Folder, is_remote, local_copy
from genprm.errors import UserError

_ROOT = Path(__file__).resolve().parent.parent
_DECIDES = re.compile(
    r".*\.(safetensors|bin|pt|gguf|model|jinja|txt)|(config|generation_config|tokenizer\w*|special_tokens_map|vocab|merges)\.json"
)
"""Files of a model's folder that decide what it writes: weights, configuration, tokenizer, chat template."""
_SAMPLE_BYTES = 1 << 18
_SAMPLES = 64
_HUB_TIMEOUT_S = 10.0


def local_model(model: str) -> str:
    """A model's path if it is one, seen from the working directory or from the repository's root (workers do not share the driver's
    working directory); of one in an object store the path of this machine's copy; else its hub name, without ``@revision``."""
    if is_remote(model):
        return str(local_copy(model))
    model = model.removeprefix("file://")
    if Path(model).is_dir():
        return model
    shipped = _ROOT / model
    return str(shipped) if shipped.is_dir() else hub_name(model)[0]


def model_folder(model: str) -> Folder | None:
    """Where a model's files are; None for one of the hub, or where there is none."""
    if is_remote(model):
        folder = Folder(model)
        return folder if folder.exists("config.json") else None
    path = Path(local_model(model))
    return Folder(str(path)) if path.is_dir() else None


def hub_name(model: str) -> tuple[str, str | None]:
    """``owner/name@revision`` in its parts; the revision is None where none is asked for."""
    name, _, revision = model.partition("@")
    return name, revision or None


def is_hub_name(model: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?", model) is not None


def model_identity(model: str) -> dict[str, Any]:
    """``{"contents": hash}`` of a local model, wherever it lies; ``{"name": ..., "revision": commit}`` of one of the hub.

    The revision is None where neither the hub nor its local cache can tell. ValueError for a path where nothing is.
    """
    folder = model_folder(model)
    if folder is not None:
        return {"contents": contents_fingerprint(folder)}
    if not is_hub_name(model):
        raise UserError("no model is there; train it first (python -m jobs.train with the same --run-dir), or name another")
    name, revision = hub_name(model)
    return {"name": name, "revision": hub_revision(name, revision)}


def contents_fingerprint(folder: Folder) -> str:
    """Changes when a file does that decides what the model writes. Of files above 16 MiB, 64 samples of 256 KiB are read, spread
    evenly from the first byte to the last, and the size."""
    digest = hashlib.sha256()
    for name in folder.names():
        if _DECIDES.fullmatch(name):
            with folder.open(name) as stream:
                size = stream.seek(0, os.SEEK_END)
                digest.update(f"{name} {size}\n".encode())
                stream.seek(0)
                _update(digest, stream, size)
    return digest.hexdigest()[:32]


def _update(digest: Any, stream: IO[bytes], size: int) -> None:
    if size <= _SAMPLES * _SAMPLE_BYTES:
        digest.update(stream.read())
        return
    for index in range(_SAMPLES):
        stream.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
        digest.update(stream.read(_SAMPLE_BYTES))


@cache
def hub_revision(name: str, revision: str | None) -> str | None:
    """The commit that a hub model's revision (None: main) stands for: as the hub says, else as its local cache has it."""
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi, constants

    if not constants.HF_HUB_OFFLINE:
        try:
            return HfApi().model_info(name, revision=revision, timeout=_HUB_TIMEOUT_S).sha
        except Exception:  # no network, no such model, no rights: loading it will say which; the cache may still have it
            pass
    cached = Path(os.environ.get("HF_HUB_CACHE", constants.HF_HUB_CACHE), f"models--{name.replace('/', '--')}", "refs", revision or "main")
    return cached.read_text().strip() if cached.is_file() else None
