"""One undisturbed run of the scripted loop, for the tests that disturb it."""

from __future__ import annotations

import pytest

from actors.storage import Folder
from tests.workflows.scripted_loop import KINDS, loop


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Folder:
    return loop(tmp_path_factory.mktemp("calm"), KINDS, {})[0]
