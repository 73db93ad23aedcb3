"""The trainer's configuration, apart from the trainer so that reading it imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from actors.models import model_identity
from genprm.section import IdentifiedBy, Placement, Section


class TrainConfig(Section):
    """Defaults are the paper's (section 4.1) where it names them: batch 64, learning rate 2e-6.

    ``batch_size`` is global, in conversations; ``micro_batch_size`` is what one process computes at a time.
    """

    LIBRARIES: ClassVar[tuple[str, ...]] = ("torch", "transformers", "deepspeed")

    conversations: Placement[str] = ""
    base_model: Annotated[str, IdentifiedBy(model_identity)]
    num_workers: int = Field(default=1, ge=1)
    num_cpus: Placement[float] = Field(default=1, ge=0)
    num_gpus: Placement[float] = Field(default=1, ge=0)
    zero_stage: Literal[0, 1, 2, 3] = 2
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = False
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=64, ge=1)
    micro_batch_size: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-6, gt=0)
    warmup_share: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=8192, ge=2)
    checkpoint_every_steps: Placement[int] = Field(default=50, ge=1)
    seed: int = 0
