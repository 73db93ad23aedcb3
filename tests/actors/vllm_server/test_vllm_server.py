"""vLLM's own server behind the HTTP engine, with the policy that ships."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest

from actors.engine import EngineError, HttpEngineConfig, open_engine
from actors.engine.http_engine import HttpEngine
from tests.actors.test_engines import ask


@pytest.fixture(scope="module")
def server(launched_server: tuple[subprocess.Popen[bytes], int]) -> Iterator[str]:
    """The address of a server that is ready."""
    child, port = launched_server
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            break
        except OSError:
            assert child.poll() is None, "the server ended at once; see its log"
            time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/v1"
    os.killpg(child.pid, 15)
    child.wait(timeout=30)


@pytest.mark.engine
@pytest.mark.slow
def test_http_engine_continues_a_turn_on_vllms_own_server(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    engine = HttpEngine(HttpEngineConfig(base_url=server, model="toy"))
    completions = asyncio.run(engine.generate(ask(n=3)))
    assert len(completions) == 3
    assert all("\nStep 2:" in completion.text for completion in completions)
    assert all(completion.num_tokens > 10 for completion in completions)
    (stopped,) = asyncio.run(engine.generate(ask(n=1, stop=("Step 2:",), num_logprobs=5)))
    assert stopped.text.endswith("Step 2:")
    assert stopped.logprobs_T
    with pytest.raises(EngineError, match="refused: HTTP 404"):
        asyncio.run(HttpEngine(HttpEngineConfig(base_url=server, model="other")).generate(ask()))
    open_engine(HttpEngineConfig(base_url=server, model="toy")).close()
    with pytest.raises(ValueError, match=r"engine\.model = 'other'.*HTTP 404"):
        open_engine(HttpEngineConfig(base_url=server, model="other"))
