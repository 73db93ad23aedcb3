"""vLLM's own server, which takes half a minute to start while other tests run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.engine import Request, Sampling, Turn
from workflows.benchmarks.free_port import free_port

MODEL = "genprm/toy/models/policy"
PROBLEM = "Tom has 7 apples. He buys 5 more. He loses 2. How many apples does Tom have now?"


def ask(n: int = 4, prefix: str = "Step 1:", max_tokens: int = 100, **more: object) -> Request:
    return Request(
        turns=(Turn(role="user", content=PROBLEM),), prefix=prefix, sampling=Sampling(max_tokens=max_tokens), seed=5, n=n, **more  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="session")
def launched_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process of a server on loopback for the policy, and its port."""
    port = free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(Path(MODEL).absolute()), "--served-model-name",
        "toy", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "512", "--enforce-eager",
        "--kv-cache-memory-bytes", str(256 << 20), "--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096",
    ]  # fmt: skip
    with (tmp_path_factory.mktemp("server") / "log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    yield child, port
    if child.poll() is None:  # no test wanted it; it may still be starting
        os.killpg(child.pid, 9)
        child.wait()
