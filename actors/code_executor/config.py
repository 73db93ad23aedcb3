"""Limits and isolation of the code executors."""

from __future__ import annotations

import enum
import tempfile
from typing import ClassVar

from pydantic import Field

from genprm.section import Placement, Section


class Tier(enum.StrEnum):
    """How well sessions are isolated, as found by attacks at the start; docs/sandbox.md says what each stops."""

    FULL = "full"
    STANDARD = "standard"
    REDUCED = "reduced"
    WEAK = "weak"
    NONE = "none"

    @property
    def strength(self) -> int:
        return len(Tier) - list(Tier).index(self)


class ExecutorConfig(Section):
    """How many executors, what each reserves of Ray, and the limits of a block and of a session.

    A block has ``timeout_s`` of wall clock; ``max_output_chars`` of what it prints are shown, ``output_limit_mib`` ends its
    session. A session has ``memory_mib`` of data, ``session_cpu_s`` of CPU, ``scratch_mib`` and ``scratch_files`` in its
    own folder (below ``scratch_dir``, or the system's). ``max_sessions`` are alive at a time in an executor; those beyond
    wait their turn and are rebuilt by running their earlier blocks again, as are those that rested for ``idle_s`` seconds.
    ``spares`` are kept ready, unused, from the start: many rows that begin together find their sessions there.
    ``num_cpus`` is how many blocks an executor runs at a time, and what it reserves of Ray, unless ``reserves_cpus`` is false: nodes
    that offer Ray no CPUs, only a custom resource, get executors and nothing else. ``libraries`` are the distributions (with what
    they depend on) that code may import; ``preload`` are the modules of them that every session has at once. An executor that can't
    reach ``lowest_tier`` refuses to start. ``resources`` are custom
    Ray resources, to place executors.
    """

    LIBRARIES: ClassVar[tuple[str, ...]] = ("numpy", "sympy", "scipy", "mpmath")

    num_executors: Placement[int] = Field(default=1, ge=1)
    num_cpus: Placement[float] = Field(default=1, ge=0)
    reserves_cpus: Placement[bool] = True
    resources: Placement[dict[str, float]] = Field(default_factory=dict)
    timeout_s: float = Field(default=5.0, gt=0)
    max_output_chars: int = Field(default=2000, ge=1)
    output_limit_mib: float = Field(default=4, gt=0)
    memory_mib: int = Field(default=1024, ge=128)
    session_cpu_s: int = Field(default=60, ge=1)
    scratch_mib: float = Field(default=64, ge=0)
    scratch_files: int = Field(default=4096, ge=0)
    scratch_dir: Placement[str | None] = None
    max_sessions: Placement[int] = Field(default=256, ge=1, le=4096)
    idle_s: Placement[float] = Field(default=300, gt=0)
    spares: Placement[int] = Field(default=1, ge=0)
    libraries: tuple[str, ...] = ("numpy", "sympy", "scipy", "mpmath")
    preload: Placement[tuple[str, ...]] = ("numpy", "sympy", "mpmath", "scipy.optimize", "scipy.integrate")
    namespaces: Placement[bool] = True
    lowest_tier: Placement[Tier] = Tier.STANDARD

    @property
    def reserved_cpus(self) -> float:
        return self.num_cpus if self.reserves_cpus else 0.0

    @property
    def scratch_parent(self) -> str:
        """The folder that holds the sessions' folders."""
        return self.scratch_dir or tempfile.gettempdir()
