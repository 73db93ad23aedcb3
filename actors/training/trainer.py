"""Supervised fine-tuning of a generative process reward model with DeepSpeed (section 4.1).

One ``Trainer`` in each process of a torch.distributed group that is already there. All processes hold all (small)
conversations and derive the same batches from the seed, so a run resumed from a checkpoint continues exactly where it was.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.chat_tokenizer import EXPORT_FACTS, ChatTokenizer, TokenizedConversation, template_hash
from actors.models import hub_name, local_model
from actors.training.config import TrainConfig
from genprm.errors import UserError
from genprm.records import Conversation

# DeepSpeed would compile its shared-memory collectives at the first start: 40 s, and a C++ compiler that may not be there.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

IGNORED = -100
TOO_LONG, NO_LOSS = "too long", "no token with loss"


def batch_indices(num_rows: int, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """The rows of every global batch, all epochs; each epoch is a permutation, its last batch may be short."""
    batches = []
    for epoch in range(epochs):
        order = list(range(num_rows))
        random.Random(f"{seed}:{epoch}").shuffle(order)
        batches += [order[start : start + batch_size] for start in range(0, num_rows, batch_size)]
    return batches


def unusable(row: TokenizedConversation, max_length: int) -> str | None:
    """Why a conversation can't be trained on, None if it can."""
    if len(row.ids_T) > max_length:
        return TOO_LONG
    return None if any(row.loss_T[1:]) else NO_LOSS


class Trainer:
    """Loads, trains, saves, exports. ``device`` is where this process computes."""

    def __init__(self, config: TrainConfig, conversations: Sequence[Conversation], *, device: torch.device) -> None:
        self._config = config
        self._device = device
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(local_model(config.base_model), revision=hub_name(config.base_model)[1])
        chats = ChatTokenizer(self.tokenizer)
        tokenized = {conversation.id: chats.conversation(conversation.messages) for conversation in conversations}
        self.rejects = {name: reason for name, row in tokenized.items() if (reason := unusable(row, config.max_length))}
        """Why conversations are left out, by their ids."""
        self._rows = [row for name, row in tokenized.items() if name not in self.rejects]
        if not self._rows:
            raise UserError(
                f"train.max_length = {config.max_length}: none of the {len(conversations)} conversations is that short and has a token "
                "with loss; raise it, or look at their loss_spans"
            )
        self.batches = batch_indices(len(self._rows), config.batch_size, config.epochs, config.seed)
        dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        torch.manual_seed(config.seed)
        model = AutoModelForCausalLM.from_pretrained(local_model(config.base_model), revision=hub_name(config.base_model)[1], dtype=dtype)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        self._engine: Any = deepspeed.initialize(model=model, config=self._deepspeed_config(), dist_init_required=False)[0]
        self.step = 0

    def _deepspeed_config(self) -> dict[str, Any]:
        config = self._config
        return {
            "train_micro_batch_size_per_gpu": config.micro_batch_size,
            "gradient_accumulation_steps": self._accumulation,
            "gradient_clipping": config.max_grad_norm,
            "bf16": {"enabled": config.precision == "bfloat16"},
            "zero_optimization": {"stage": config.zero_stage},
            "optimizer": {
                "type": "AdamW",
                "params": {
                    "lr": config.learning_rate,
                    "weight_decay": config.weight_decay,
                    "torch_adam": self._device.type == "cpu",
                },
            },
            "scheduler": {
                "type": "WarmupDecayLR",
                "params": {
                    "warmup_max_lr": config.learning_rate,
                    "warmup_num_steps": max(2, int(config.warmup_share * len(self.batches))),
                    "total_num_steps": len(self.batches) + 1,
                },
            },
            "steps_per_print": 10**9,
        }

    @property
    def _accumulation(self) -> int:
        """Micro-batches each process takes per global batch."""
        per_round = self._config.micro_batch_size * self._world
        return -(-self._config.batch_size // per_round)

    def load_checkpoint(self, folder: Path) -> bool:
        """Resume from the newest checkpoint in ``folder``; False if there is none."""
        if not (folder / "latest").is_file():
            return False
        _, state = self._engine.load_checkpoint(str(folder))
        self.step = int(state["step"])
        return True

    @property
    def tag(self) -> str:
        """The name of a checkpoint of now."""
        return f"step-{self.step}"

    def save_checkpoint(self, folder: Path) -> None:
        """Every process calls this; DeepSpeed names the checkpoint in ``latest`` only after all have written."""
        self._engine.save_checkpoint(str(folder), tag=self.tag, client_state={"step": self.step})

    def train(self) -> Iterator[dict[str, float]]:
        """One yield per optimizer step from where the trainer stands: loss, learning rate, tokens."""
        self._engine.train()
        while self.step < len(self.batches):
            batch = self.batches[self.step]
            loss_tokens = sum(sum(self._rows[index].loss_T[1:]) for index in batch)
            normaliser = max(1.0, loss_tokens / (self._world * self._accumulation))
            total = 0.0
            for ids, targets in self._micro_batches(batch):
                logits = self._engine(input_ids=ids, use_cache=False).logits
                losses = torch.nn.functional.cross_entropy(
                    logits[:, :-1].float().flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
                )
                loss = losses / normaliser
                self._engine.backward(loss)
                self._engine.step()
                total += float(loss.detach()) / self._accumulation
            mean = torch.tensor([total], device=self._device)
            dist.all_reduce(mean)
            self.step += 1
            yield {
                "step": self.step,
                "loss": float(mean) / self._world,
                "learning_rate": float(self._engine.get_lr()[0]),
                "tokens": float(sum(len(self._rows[index].ids_T) for index in batch)),
            }

    def _micro_batches(self, batch: Sequence[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's share of a global batch, padded; always ``_accumulation`` pairs, some perhaps without loss."""
        own = list(batch[self._rank :: self._world])
        size = self._config.micro_batch_size
        for start in range(0, self._accumulation * size, size):
            rows = [self._rows[index] for index in own[start : start + size]]
            yield self._padded(rows or [_silent(self._rows[batch[0]])])

    def _padded(self, rows: Sequence[TokenizedConversation]) -> tuple[torch.Tensor, torch.Tensor]:
        length = max(len(row.ids_T) for row in rows)
        padding = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = torch.full((len(rows), length), padding, dtype=torch.long)
        targets = torch.full((len(rows), length), IGNORED, dtype=torch.long)
        for position, row in enumerate(rows):
            ids[position, : len(row.ids_T)] = torch.tensor(row.ids_T)
            wanted = [token if loss else IGNORED for token, loss in zip(row.ids_T, row.loss_T, strict=True)]
            targets[position, : len(wanted)] = torch.tensor(wanted)
        return ids.to(self._device), targets.to(self._device)

    def export(self, folder: Path) -> None:
        """Write the model in Hugging Face format, which vLLM loads; every process calls this, the first one writes."""
        module = self._engine.module
        gathered: Callable[..., Any] = (
            deepspeed.zero.GatheredParameters if self._config.zero_stage == 3 else lambda *_, **__: contextlib.nullcontext()
        )
        with gathered(list(module.parameters()), modifier_rank=0):
            if self._rank == 0:
                state = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
                temporary = folder.with_name(folder.name + ".partial")
                module.save_pretrained(temporary, state_dict=state)
                self.tokenizer.save_pretrained(temporary)
                facts = {"base_model": self._config.base_model, "steps": self.step, "chat_template_sha256": template_hash(self.tokenizer)}
                (temporary / EXPORT_FACTS).write_text(json.dumps(facts))
                if folder.exists():  # of a run that was killed after its export
                    shutil.rmtree(folder)
                temporary.replace(folder)
        dist.barrier()


def _silent(row: TokenizedConversation) -> TokenizedConversation:
    return TokenizedConversation(ids_T=row.ids_T, loss_T=[False] * len(row.ids_T))
