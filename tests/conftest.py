"""One small Ray for the tests that ask for it; never started unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub: a model that is not here is not asked for five times


@pytest.fixture(scope="session")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from tests.actors.scripts import CALLS

    os.environ[CALLS] = str(tmp_path_factory.mktemp("ray") / "calls")  # Ray's workers inherit it
    Path(os.environ[CALLS]).touch()
    from cluster.session import RayConfig, connect, disconnect

    connect(RayConfig(num_cpus=4, dashboard=False))
    yield
    disconnect()
