"""One undisturbed run of the scripted loop, for the tests that disturb it."""

from __future__ import annotations

import pytest

from tests.workflows.scripted_loop import KINDS, loop
from workflows.stage.folder import Folder


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Folder:
    return loop(tmp_path_factory.mktemp("calm"), KINDS, {})[0]
