"""One small Ray for the tests that ask for it; never started unasked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    from cluster.session import RayConfig, connect, disconnect

    connect(RayConfig(num_cpus=4, dashboard=False))
    yield
    disconnect()
