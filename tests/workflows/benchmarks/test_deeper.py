"""A model with more layers that says the same."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from workflows.benchmarks.deeper import deepen

RATIONALE = Path("genprm/toy/models/rationale")


def test_added_layers_change_nothing(tmp_path: Path) -> None:
    deepen(RATIONALE, 3, tmp_path / "deeper")
    model, deeper = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (RATIONALE, tmp_path / "deeper"))
    assert (model.config.num_hidden_layers, deeper.config.num_hidden_layers) == (4, 12)
    tokens = torch.arange(20, 84).reshape(1, -1)
    assert torch.equal(model(tokens).logits, deeper(tokens).logits)
    own = model.get_parameter("model.layers.1.mlp.up_proj.weight")
    assert torch.equal(own, deeper.get_parameter("model.layers.9.mlp.up_proj.weight"))  # they do work
