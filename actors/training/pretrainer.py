"""Pretraining of a tiny causal language model from a stream of weighted texts, on one GPU or a few CPU cores.

Made for the models of the arithmetic world (about 1M parameters, Qwen2 architecture). Matrices are trained with Muon, the
rest with AdamW; both schedules warm up and decay linearly to zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe:
    """Size and schedule; ``batch_tokens`` counts padding, lengths in tokens."""

    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 384
    max_length: int = 1024
    num_steps: int = 1000
    batch_tokens: int = 16384
    muon_learning_rate: float = 0.02
    adam_learning_rate: float = 0.004
    warmup_share: float = 0.04
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class WeightedText:
    """A training text and the loss weight of every character of it."""

    text: str
    weights: Sequence[float]


def new_model(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    torch.manual_seed(recipe.seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def batches(texts: Iterator[WeightedText], tokenizer: PreTrainedTokenizerFast, recipe: PretrainRecipe) -> Iterator[Batch]:
    """Token ids, targets and weights, each (sequences, length); a token weighs what its last character weighs.

    512 texts at a time are sorted by length and cut into batches of about ``batch_tokens``, which keeps padding low.
    """
    backend = tokenizer.backend_tokenizer
    generator = torch.Generator().manual_seed(recipe.seed)
    while True:
        pool = [next(texts) for _ in range(512)]
        rows: list[tuple[list[int], list[float]]] = []
        for item, encoding in zip(pool, backend.encode_batch([item.text for item in pool]), strict=True):
            if len(encoding.ids) <= recipe.max_length:
                rows.append((encoding.ids, [item.weights[end - 1] if end > start else 0.0 for start, end in encoding.offsets]))
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], list[float]]]] = [[]]
        for row in rows:
            if len(row[0]) * (len(groups[-1]) + 1) > recipe.batch_tokens:
                groups.append([])
            groups[-1].append(row)
        for position in torch.randperm(len(groups), generator=generator).tolist():
            group = groups[position]
            length = max(len(ids) for ids, _ in group)
            ids = torch.full((len(group), length), tokenizer.pad_token_id, dtype=torch.long)
            weights = torch.zeros(len(group), length)
            for index, (row_ids, row_weights) in enumerate(group):
                ids[index, : len(row_ids)] = torch.tensor(row_ids)
                weights[index, : len(row_weights)] = torch.tensor(row_weights)
            yield ids[:, :-1], ids[:, 1:], weights[:, 1:]


def pretrain(
    texts: Iterator[WeightedText],
    tokenizer: PreTrainedTokenizerFast,
    recipe: PretrainRecipe,
    report: Callable[[int, float, float], None],
) -> Qwen2ForCausalLM:
    """Train a new model for ``recipe.num_steps`` batches; ``report(step, loss, tokens_per_s)`` every 20 steps."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = new_model(recipe, tokenizer).to(device)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=recipe.muon_learning_rate, weight_decay=0.01, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=recipe.adam_learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    warmup = max(1, int(recipe.warmup_share * recipe.num_steps))
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, (recipe.num_steps - step) / (recipe.num_steps - warmup))
        )
        for optimizer in optimizers
    ]
    model.train()
    stream = batches(texts, tokenizer, recipe)
    began, tokens, running = time.monotonic(), 0, 0.0
    for step in range(recipe.num_steps):
        ids, targets, weights = (tensor.to(device) for tensor in next(stream))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(input_ids=ids, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        tokens += ids.numel()
        running = loss.item() if step == 0 else 0.95 * running + 0.05 * loss.item()
        if step % 20 == 0 or step == recipe.num_steps - 1:
            report(step, running, tokens / (time.monotonic() - began))
    return model.cpu().eval()


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write safetensors (bfloat16), config and tokenizer, in the layout that Transformers and vLLM load."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
