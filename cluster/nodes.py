"""What the cluster's nodes have, as Ray sees them now; and what an autoscaler can add."""

from __future__ import annotations

from collections.abc import Mapping


def alive_nodes() -> dict[str, Mapping[str, float]]:
    """All resources of each node that is alive, by its id."""
    import ray

    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def free_resources() -> list[Mapping[str, float]]:
    """What is not reserved, of each node."""
    from ray._private.state import available_resources_per_node

    alive = alive_nodes()
    return [resources for node, resources in available_resources_per_node().items() if node in alive]


def growable() -> list[Mapping[str, float]]:
    """The resources of a node of each kind that an autoscaler may add; none where there is no autoscaler."""
    from ray._private.state import state

    config = state.get_cluster_config()
    return [dict(group.resources) for group in config.node_group_configs if group.max_count != 0] if config is not None else []
