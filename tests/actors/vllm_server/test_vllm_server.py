"""vLLM's own server behind the HTTP engine, with the policy that ships."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

from actors.engine import EngineError, HttpEngineConfig, Piece, Sampling, open_engine
from actors.engine.http_engine import HttpEngine
from tests.actors.conftest import MODEL, ask


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

    sampling = Sampling(temperature=0.0, max_tokens=60)
    tokens = open_engine(HttpEngineConfig(base_url=server, model="toy", tokenizer=MODEL))
    (whole,) = asyncio.run(tokens.generate(replace(ask(n=1, wants_ids=True, num_logprobs=5), sampling=sampling)))
    assert whole.ids is not None
    assert len(whole.ids) == whole.num_tokens - 1  # without the end of the turn
    assert len(whole.logprobs_T) == whole.num_tokens
    (first,) = asyncio.run(tokens.generate(replace(ask(n=1, wants_ids=True, stop=("Step 2:",)), sampling=sampling)))
    more = replace(ask(n=1, wants_ids=True), sampling=sampling, prefix=f"Step 1:{first.text}", pieces=(Piece(text="Step 1:"), first.piece))
    (second,) = asyncio.run(tokens.generate(more))
    assert first.text + second.text == whole.text
    assert (*(first.ids or ()), *(second.ids or ())) == whole.ids
    (as_text,) = asyncio.run(engine.generate(replace(ask(n=1), sampling=sampling)))
    assert as_text.text == whole.text  # where the template and the borders make no difference
    with pytest.raises(ValueError, match=r"engine\.tokenizer = 'nowhere/model' can't be loaded"):
        HttpEngine(HttpEngineConfig(base_url=server, model="toy", tokenizer="nowhere/model"))
    with pytest.raises(ValueError, match=r"engine\.model = 'other'.*HTTP 404"):
        open_engine(HttpEngineConfig(base_url=server, model="other"))
