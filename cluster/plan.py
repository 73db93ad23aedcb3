"""What a stage reserves of a cluster, as arithmetic before it is Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Demand:
    """CPUs, GPUs and ``custom`` resources that must be there at the same time; adding demands adds them up."""

    cpus: float = 0.0
    gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Demand) -> Demand:
        custom = {name: self.custom.get(name, 0) + other.custom.get(name, 0) for name in (*self.custom, *other.custom)}
        return Demand(cpus=self.cpus + other.cpus, gpus=self.gpus + other.gpus, custom=custom)

    def times(self, number: int) -> Demand:
        custom = {name: value * number for name, value in self.custom.items()}
        return Demand(cpus=self.cpus * number, gpus=self.gpus * number, custom=custom)


READ_TASK = Demand(cpus=1.0)
"""Ray Data's read tasks run beside a stage's actors and need a CPU of their own."""


STAGE_REMEDY = "lower engines.*.num_cpus or num_gpus and pools.*.num_workers, or raise ray.num_cpus"


def shortfall(demand: Demand, available: Mapping[str, float], remedy: str = STAGE_REMEDY) -> str | None:
    """What is missing, in words with the remedy; None if the demand fits into Ray's ``cluster_resources()``."""
    missing = [
        f"{needed:g} {name}, of which there are {available.get(name, 0):g}"
        for name, needed in (("CPU", demand.cpus), ("GPU", demand.gpus), *demand.custom.items())
        if needed > available.get(name, 0)
    ]
    if not missing:
        return None
    return f"needs {' and '.join(missing)}; {remedy}"
