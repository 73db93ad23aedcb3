"""A small model made as costly as a larger one, its text unchanged."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

WRITES = ("self_attn.o_proj.weight", "mlp.down_proj.weight")  # how a layer changes what it was given


def deepen(model: Path, times: int, into: Path) -> None:
    """Write a model (Transformers layout, one file of weights) with ``times`` as many layers that computes the same: every added layer
    works like one that was there and adds zero.
    """
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, into)
    config = json.loads((model / "config.json").read_text())
    number = config["num_hidden_layers"]
    (into / "config.json").write_text(
        json.dumps({**config, "num_hidden_layers": number * times, "layer_types": config["layer_types"] * times})
    )
    weights = load_file(model / "model.safetensors")
    added = {}
    for name, weight in weights.items():
        if layer := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name):
            for copy in range(1, times):
                like = torch.zeros_like if layer[2] in WRITES else torch.clone
                added[f"model.layers.{copy * number + int(layer[1])}.{layer[2]}"] = like(weight)
    save_file({**weights, **added}, into / "model.safetensors", metadata={"format": "pt"})
