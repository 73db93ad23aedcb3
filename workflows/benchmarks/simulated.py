"""Simulated engines for measurements of everything but the engine: one that answers at once, one that takes its time as a GPU does.

They play the policy, the completer and the rationale model on problems of the form "<a> plus <b>", right about half of the time, as
each request's seed decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from actors.engine import Completion, Finish, Request, Sampling, Turn
from genprm import rationale
from workflows.benchmarks.free_port import free_port

STEP_S = 0.020
"""A step of the simulated GPU, whatever is in it."""
NUM_SEQUENCES = 256
"""Sequences that it serves side by side."""
SLOW_STEP_S, SLOW_SEQUENCES = 0.100, 64
"""Of a slower one: eight of these need no more of our CPUs than one of the others."""
SOLUTION_TOKENS = (25, 75)
SEGMENT_TOKENS = (50, 150)


def instant(request: Request) -> list[Completion]:
    """Answers at once; rationales have no code."""
    return [completion_of(request, index, with_code=False) for index in range(request.n)]


async def gpu(request: Request) -> list[Completion]:
    """Every sequence takes a step for each of its tokens, as soon as there is room for it; the CPU sleeps meanwhile."""
    return await _in_steps(request, STEP_S, NUM_SEQUENCES)


async def slow_gpu(request: Request) -> list[Completion]:
    """The same with fewer sequences and longer steps."""
    return await _in_steps(request, SLOW_STEP_S, SLOW_SEQUENCES)


@cache
def _room(_: asyncio.AbstractEventLoop, sequences: int) -> asyncio.Semaphore:
    return asyncio.Semaphore(sequences)


async def _in_steps(request: Request, step_s: float, sequences: int) -> list[Completion]:
    async def write(index: int) -> Completion:
        completion = completion_of(request, index, with_code=True)
        async with _room(asyncio.get_running_loop(), sequences):
            await asyncio.sleep(completion.num_tokens * step_s)
        return completion

    return list(await asyncio.gather(*(write(index) for index in range(request.n))))


def completion_of(request: Request, index: int, *, with_code: bool) -> Completion:
    chance = random.Random(request.seed + index)
    text = request.turns[0].content
    if "<paragraph_1>" in text:
        return _rationale(request, chance, with_code=with_code)
    a, b = map(int, re.findall(r"(\d+) plus (\d+)", text)[0])
    claim = a + b + (chance.random() < 0.5)
    answer = f" The answer is $\\boxed{{{claim}}}$."
    whole = f" {a} + {b} = {claim}.\nStep 2:{answer}"
    return _say(answer if request.prefix.endswith("Step 2:") else whole, chance.randint(*SOLUTION_TOKENS))


def _rationale(request: Request, chance: random.Random, *, with_code: bool) -> Completion:
    written = request.prefix
    if written.endswith(rationale.FINAL_INDEX_BRIDGE):
        return _say("{-1}", 4)
    steps = re.findall(r"<paragraph_\d+>\n(.*?)\n</paragraph_\d+>", request.turns[0].content, re.DOTALL)
    done = written.count("[Code Output]")
    if not with_code or done == len(steps):
        return _say("</verify>\n</think>", chance.randint(*SEGMENT_TOKENS))
    heading = f"</verify>\n### Paragraph {done + 1}\n<analyze>\n" if done else ""
    code = f"print({chance.randint(1, 99)} + {chance.randint(1, 99)})"
    return _say(f"{heading}A sum.\n</analyze>\n<verify>\n```python\n{code}\n```\n", chance.randint(*SEGMENT_TOKENS))


def _say(text: str, num_tokens: int) -> Completion:
    return Completion(text=text, finish=Finish.STOP, num_tokens=num_tokens)


class Endpoint:
    """The simulated GPU behind an OpenAI-compatible address: ``python -m workflows.benchmarks.simulated PORT``."""

    def __init__(self) -> None:
        self.url = ""

    def __enter__(self) -> Endpoint:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/v1"
        self._process = subprocess.Popen([sys.executable, "-m", "workflows.benchmarks.simulated", str(port)])
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return self
            if self._process.poll() is not None:
                raise RuntimeError("the simulated endpoint did not start")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def serve(port: int) -> None:
    from aiohttp import web

    async def answer(http: web.Request) -> web.Response:
        asked = await http.json()
        last = asked["messages"][-1]
        prefix = last["content"] if last["role"] == "assistant" else ""
        turns = tuple(Turn(role=turn["role"], content=turn["content"]) for turn in asked["messages"][: -1 if prefix else None])
        request = Request(turns=turns, prefix=prefix, sampling=Sampling(), seed=asked.get("seed", 0), n=asked.get("n", 1))
        completions = await gpu(request) if "plus" in turns[0].content else [_say("2", 1)]
        choices = [
            {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": completion.text}}
            for index, completion in enumerate(completions)
        ]
        tokens = sum(completion.num_tokens for completion in completions)
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        return web.json_response({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage})

    application = web.Application()
    application.router.add_post("/v1/chat/completions", answer)
    web.run_app(application, host="127.0.0.1", port=port, print=None, access_log=None)


def write_problems(file: Path, number: int) -> str:
    """A file of so many different problems; gives its path."""
    with file.open("w") as stream:
        for index in range(number):
            a, b = index % 1000, index // 1000 + 1
            row = {"unique_id": f"p{index}", "problem": f"What is {a} plus {b}?", "answer": str(a + b)}
            stream.write(json.dumps(row) + "\n")
    return str(file)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
