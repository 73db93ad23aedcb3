"""Tokens per second of a model on GPUs, from memory bandwidth and peak arithmetic (a roofline), not from a run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genprm.errors import UserError

GIB = 1 << 30
WEIGHT_BYTES = 2
"""Of a parameter, in bfloat16."""
MEMORY_USED = 0.9
"""Of a GPU, by vLLM's default."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """``memory_gib``; bytes per second of memory; dense bfloat16 operations per second."""

    memory_gib: float
    bandwidth: float
    flops: float


GPUS: Mapping[str, Gpu] = {
    "L40S": Gpu(memory_gib=45, bandwidth=0.864e12, flops=362e12),
    "A100": Gpu(memory_gib=80, bandwidth=2.04e12, flops=312e12),
    "H100": Gpu(memory_gib=80, bandwidth=3.35e12, flops=989e12),
    "H200": Gpu(memory_gib=141, bandwidth=4.8e12, flops=989e12),
    "B200": Gpu(memory_gib=180, bandwidth=8.0e12, flops=2250e12),
}
"""NVIDIA's data sheets, SXM cards of 80 GB and more where there are several."""

_KV_BYTES = ((1.5, 28_672), (3, 36_864), (7, 57_344), (14, 196_608), (32, 262_144), (72, 327_680))
"""Bytes of the KV cache a token, by billions of parameters: Qwen2.5's (layers x key-value heads x head size x 2 x 2 bytes)."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Parameters, and bytes of the KV cache a token."""

    parameters: float
    kv_bytes: float


def model_of(name: str) -> Model:
    """From a local folder's files, else from the size in the name (``Qwen2.5-7B``); UserError where neither says it."""
    if (config := Path(name) / "config.json").is_file():
        size = sum(file.stat().st_size for file in Path(name).glob("*.safetensors"))
        shape = json.loads(config.read_text())
        width = {"float32": 4}.get(str(shape.get("dtype") or shape.get("torch_dtype")), 2)
        heads = shape.get("num_key_value_heads") or shape["num_attention_heads"]
        head = shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"]
        return Model(parameters=size / width, kv_bytes=2 * WEIGHT_BYTES * shape["num_hidden_layers"] * heads * head)
    found = re.findall(r"(\d+(?:\.\d+)?)[bB](?![A-Za-z])", name)
    if not found:
        raise UserError(f"model {name!r}: its size is in no local config.json and not in its name (as in Qwen2.5-7B)")
    billions = float(found[-1])
    return Model(parameters=billions * 1e9, kv_bytes=min(_KV_BYTES, key=lambda entry: abs(entry[0] - billions))[1])


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one engine: tokens per second generated and of prompts read, and how many sequences it serves side by side."""

    generated: float
    read: float
    sequences: float


def speed(model: Model, gpu: Gpu, num_gpus: float, *, context: float, sequences: float, decode: float, prefill: float) -> Speed:
    """With ``context`` tokens a sequence on average, at most so many ``sequences``, and shares of the possible (efficiencies).

    A step reads all weights and the cache of its sequences, or computes two operations a parameter and sequence, whichever takes
    longer. UserError where the model does not fit.
    """
    weights = WEIGHT_BYTES * model.parameters
    room = num_gpus * gpu.memory_gib * GIB * MEMORY_USED - 1.05 * weights
    side_by_side = min(sequences, room / (context * model.kv_bytes))
    if side_by_side < 1:
        raise UserError(
            f"a model of {model.parameters / 1e9:.3g}B parameters with {context:,.0f} tokens of context does not fit {num_gpus:g} GPUs of "
            f"{gpu.memory_gib:g} GiB; raise num_gpus"
        )
    reading = (weights + side_by_side * context * model.kv_bytes) / (num_gpus * gpu.bandwidth)
    computing = 2 * model.parameters * side_by_side / (num_gpus * gpu.flops)
    return Speed(
        generated=decode * side_by_side / max(reading, computing),
        read=prefill * num_gpus * gpu.flops / (2 * model.parameters),
        sequences=side_by_side,
    )
