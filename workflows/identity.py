"""What decides a stage's output, as the plain values that its plan records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from actors.code_executor.config import ExecutorConfig
from actors.engine.config import EngineConfig, VllmEngineConfig
from actors.grading.grader import GradingConfig
from actors.models import local_model
from genprm.section import Section

HASHED_BYTES = 1 << 24
EXECUTOR_IDENTITY = {
    "timeout_s", "max_output_chars", "output_limit_mib", "memory_mib", "session_cpu_s", "scratch_mib", "scratch_files", "libraries",
}  # fmt: skip


def dump(*sections: tuple[str, Any]) -> dict[str, Any]:
    """Sections, and plain values, as plain values."""
    return {name: json.loads(value.model_dump_json()) if isinstance(value, Section) else value for name, value in sections}


def engine_identity(engine: EngineConfig) -> dict[str, Any]:
    """What of an engine decides what it writes: not its size or its memory."""
    keep = ("type", "model", "dtype", "base_url", "script", "max_model_len", "stop_token_ids")
    identity: dict[str, Any] = {name: value for name, value in json.loads(engine.model_dump_json()).items() if name in keep}
    if isinstance(engine, VllmEngineConfig):
        identity["weights"] = weights_fingerprint(engine.model)
        identity["chat_template"] = engine.read_chat_template()
    return identity


def executor_identity(executor: ExecutorConfig) -> dict[str, Any]:
    """What of the executors decides what a model sees of its code: not their number."""
    kept: dict[str, Any] = json.loads(executor.model_dump_json(include=EXECUTOR_IDENTITY))
    return kept


def grading_identity(grading: GradingConfig) -> dict[str, Any]:
    return {"timeout_s": grading.timeout_s}


def weights_fingerprint(model: str) -> str | None:
    """Changes when a local model's weights do: sizes and first 16 MiB of its files. None for a model of the hub."""
    folder = Path(local_model(model))
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(HASHED_BYTES))
    return digest.hexdigest()[:32]
