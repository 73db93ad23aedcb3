"""The configuration of the toy models; light to import."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from genprm.section import Section

ToyRole = Literal["policy", "rationale", "base"]


class ToySteps(Section):
    """Optimizer steps of each toy model."""

    policy: int = Field(default=480, ge=1)
    rationale: int = Field(default=950, ge=1)
    base: int = Field(default=420, ge=1)


class ToyModelsConfig(Section):
    """Which toy models are made, from which seed, how long; with ``train`` false those that are there are only measured."""

    seed: int = 1
    models: tuple[ToyRole, ...] = ("policy", "rationale", "base")
    steps: ToySteps = ToySteps()
    train: bool = True
