"""Limits of the code executor."""

from __future__ import annotations

from pydantic import Field

from actors.section import Section


class ExecutorConfig(Section):
    """Limits of a block (``timeout_s``, ``max_output_chars``) and of a session (``memory_mib``); ``num_executors`` actors."""

    num_executors: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=0.5, ge=0)
    timeout_s: float = Field(default=5.0, gt=0)
    max_output_chars: int = Field(default=2000, ge=1)
    memory_mib: int = Field(default=2048, ge=128)
