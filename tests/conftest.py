"""What tests share: one small Ray and one group of a single process for training, for those that ask; never started unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflows.benchmarks.free_port import free_port
from workflows.benchmarks.s3_server import Server, environment, serving

# Before anything imports these libraries: a model that is not here is not asked for five times; processes of Ray's tasks are kept and
# used again, and a finished training is noticed at once. Two processes share two cores: threads of OpenMP wait busily for one another, and
# Ray's workers, which have niceness 15 by default, would be starved by the tests of the other process.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
    "RAY_num_workers_soft_limit": "16",
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
S3_PORT = free_port()
"""Of the server of `s3`, which starts with the first test that asks for it."""
os.environ |= environment(S3_PORT)  # Ray's workers inherit it


SHARED = ("calm", "launched_server", "process_group")
"""Fixtures that take long, or that a process can have once: all tests that use one run in the same process."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the work by files (``make test``), those that take longest first."""
    fixtures: dict[Path, set[str]] = {}
    for item in items:
        fixtures.setdefault(item.path, set()).update(set(SHARED) & set(getattr(item, "fixturenames", ())))
    groups = {path: min(found, default=str(path)) for path, found in fixtures.items()}
    longest = dict.fromkeys(groups.values(), 0)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))
        limit = item.get_closest_marker("timeout")
        expected = limit.args[0] if limit else int(item.get_closest_marker("slow") is not None)
        longest[groups[item.path]] = max(longest[groups[item.path]], expected)
    items.sort(key=lambda item: (-longest[groups[item.path]], groups[item.path]))


@pytest.fixture(scope="session")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from tests.actors.scripts import CALLS

    os.environ[CALLS] = str(tmp_path_factory.mktemp("ray") / "calls")  # Ray's workers inherit it
    Path(os.environ[CALLS]).touch()
    from cluster.session import RayConfig, connect, disconnect

    connect(RayConfig(num_cpus=8, dashboard=False))
    yield
    disconnect()


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """An object store on loopback."""
    with serving(S3_PORT) as server:
        yield server


@pytest.fixture(scope="session")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import torch.distributed as dist

    os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "0"}
    dist.init_process_group("gloo", init_method=f"file://{tmp_path_factory.mktemp('group') / 'store'}", rank=0, world_size=1)
    yield
    if dist.is_initialized():  # vLLM in the same process ends whatever group there is
        dist.destroy_process_group()
