"""What a stage reserves of a cluster's nodes, as arithmetic before it is Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Demand:
    """CPUs, GPUs and ``custom`` resources that one actor or task reserves, all on one node."""

    cpus: float = 0.0
    gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)

    @property
    def resources(self) -> dict[str, float]:
        """By Ray's names, without those of which nothing is needed."""
        return {name: amount for name, amount in {"CPU": self.cpus, "GPU": self.gpus, **self.custom}.items() if amount}

    def __str__(self) -> str:
        return " and ".join(f"{amount:g} {name}" for name, amount in self.resources.items()) or "nothing"


READ_TASK = Demand(cpus=1.0)
"""Ray Data's read tasks run beside a stage's actors and need a CPU of their own."""


STAGE_REMEDY = "lower engines.*.num_cpus or num_gpus and pools.*.num_workers, or raise ray.num_cpus"
_TOLERANCE = 1e-6


def room_for(demand: Demand, nodes: Iterable[Mapping[str, float]]) -> int:
    """How many of a demand fit into the nodes' resources at the same time."""
    needed = demand.resources
    if not needed:
        return 1 << 20
    return sum(math.floor(min(node.get(name, 0.0) / amount for name, amount in needed.items()) + _TOLERANCE) for node in nodes)


def shortfall(
    demands: Sequence[Demand],
    nodes: Iterable[Mapping[str, float]],
    remedy: str = STAGE_REMEDY,
    growable: Sequence[Mapping[str, float]] = (),
) -> str | None:
    """What is missing, in words with the remedy; None if all demands fit into the nodes at the same time, each on one node.

    ``nodes`` and ``growable``, those of which more can be had, have their resources by Ray's names. The largest demands are placed
    first, each where least is left over.
    """
    whole = [dict(node) for node in nodes]
    left = [dict(node) for node in whole]
    for demand in sorted(demands, key=lambda item: (item.gpus, sum(item.custom.values()), item.cpus), reverse=True):
        needed = demand.resources
        if any(_fits(needed, node) for node in growable):
            continue
        places = [node for node in left if _fits(needed, node)]
        if not places:
            return _missing(demands, demand, whole, remedy)
        best = min(places, key=lambda node: (node.get("GPU", 0.0), node.get("CPU", 0.0)))
        for name, amount in needed.items():
            best[name] -= amount
    return None


def _fits(needed: Mapping[str, float], node: Mapping[str, float]) -> bool:
    return all(node.get(name, 0.0) + _TOLERANCE >= amount for name, amount in needed.items())


def _missing(demands: Sequence[Demand], unplaced: Demand, nodes: Sequence[Mapping[str, float]], remedy: str) -> str:
    """``nodes`` have all their resources."""
    total = _sum(demand.resources for demand in demands)
    there = _sum(nodes)
    short = [f"{amount:g} {name}, of which there are {there.get(name, 0):g}" for name, amount in total.items()
             if amount > there.get(name, 0.0) + _TOLERANCE]  # fmt: skip
    if short:
        return f"needs {' and '.join(short)}; {remedy}"
    return f"needs nodes of another size: on none is there room for {unplaced} beside the others; {remedy}"


def _sum(resources: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for each in resources:
        for name, amount in each.items():
            total[name] = total.get(name, 0.0) + amount
    return total
