"""One small Ray for the tests that ask for it, never started unasked; how tests are spread over processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from tests.actors.scripts import CALLS

    os.environ[CALLS] = str(tmp_path_factory.mktemp("ray") / "calls")  # Ray's workers inherit it
    Path(os.environ[CALLS]).touch()
    from cluster.session import RayConfig, connect, disconnect

    connect(RayConfig(num_cpus=4, dashboard=False))
    yield
    disconnect()


TOGETHER = {"test_killed_workers.py": "calm", "test_misbehaving_endpoint.py": "calm"}
"""Files whose tests share a fixture that takes long to make."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file stay in one process, for they share fixtures; files with slow tests come first, not to be left at the end."""
    groups = {item: TOGETHER.get(item.path.name, str(item.path)) for item in items}
    slow = {groups[item] for item in items if item.get_closest_marker("slow")}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    items.sort(key=lambda item: groups[item] not in slow)
