"""Scripted engines for tests: what a model would write, decided by the prompt."""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.code_executor import CodeExecutor, ExecutorConfig
from actors.engine import Completion, EngineError, Finish, Request
from genprm import rationale

Answer = TypeVar("Answer")
CALLS = "GENPRM_TEST_CALLS"


def say(text: str, finish: Finish = Finish.STOP, num_tokens: int | None = None) -> Completion:
    return Completion(text=text, finish=finish, num_tokens=len(text.split()) if num_tokens is None else num_tokens)


def solver(request: Request) -> list[Completion]:
    """Solves "<a> plus <b>": even completions right, odd ones wrong by one."""
    a, _, b = request.turns[0].content.split()[:3]
    right = int(a) + int(b)
    return [
        say(f" {a} + {b} = {right + index % 2}.\nStep 2: The answer is $\\boxed{{{right + index % 2}}}$.") for index in range(request.n)
    ]


def moody(request: Request) -> list[Completion]:
    """A solver that fails on 13, and kills its process on 66."""
    text = request.turns[0].content
    if text.startswith("13 "):
        raise EngineError("unlucky")
    if text.startswith("66 "):
        os.kill(os.getpid(), signal.SIGKILL)
    return solver(request)


def slow(request: Request) -> list[Completion]:
    """A solver that takes its time, so that a test can kill something meanwhile."""
    time.sleep(0.05)
    return solver(request)


def chancy(request: Request) -> list[Completion]:
    """A slow solver that is right seven times in ten, as the request's seed decides."""
    time.sleep(0.03)
    a, _, b = request.turns[0].content.split()[:3]
    chance = random.Random(request.seed)
    claims = [int(a) + int(b) + (chance.random() > 0.7) for _ in range(request.n)]
    return [say(f" {a} + {b} = {claim}.\nStep 2: So much it is.\nStep 3: The answer is $\\boxed{{{claim}}}$.") for claim in claims]


def everyone(request: Request) -> list[Completion]:
    """All roles of the loop on "<a> plus <b>": a policy that is right half of the time, judges that run code and believe it.

    Every call leaves a byte in the file that `CALLS` names in the environment.
    """
    if CALLS in os.environ:
        with open(os.environ[CALLS], "ab") as calls:
            calls.write(b"x")
    time.sleep(0.005)
    if request.turns[0].role == "system":
        return [_verifier(request)] * request.n
    if "<paragraph_1>" in request.turns[0].content:
        return [_rationale(request)] * request.n
    claim = re.search(r"= (\d+)\.\nStep 2:$", request.prefix)
    if claim:
        return [say(f" The answer is $\\boxed{{{claim[1]}}}$.")] * request.n
    return solver(request)


def _check(text: str) -> str:
    """A line of Python that prints whether the last sum in ``text`` is right."""
    sums = re.findall(r"(\d+) \+ (\d+) = (\d+)", text)
    return "print({} + {} == {})".format(*sums[-1]) if sums else "print(True)"


def _verifier(request: Request) -> Completion:
    written = request.prefix
    if written.endswith(rationale.OUTPUT_PREFILL):
        word = "No" if "\nFalse\n" in written else "Yes"
        return Completion(
            text=f"{{{word}}}$\n</output>",
            finish=Finish.STOP,
            num_tokens=4,
            logprobs_T=({"{": 0.0}, {word: math.log(0.9), {"Yes": "No", "No": "Yes"}[word]: math.log(0.1)}),
        )
    if written.endswith(rationale.VERIFY_PREFILL):
        return say(f"{_check(request.turns[-1].content)}\n```\n")
    if rationale.VERIFY_PREFILL in written:
        return say("The code has spoken.\n</verify>")
    return say("A sum.\n</analyze>")


def _rationale(request: Request) -> Completion:
    written, steps = request.prefix, re.findall(r"<paragraph_\d+>\n(.*?)\n</paragraph_\d+>", request.turns[0].content, re.DOTALL)
    if written.endswith("\\boxed"):
        printed = re.findall(r"\[Code Output\]\n\n```\n(\w*)", written)
        return say(f"{{{printed.index('False') + 1 if 'False' in printed else -1}}}")
    done = written.count("[Code Output]")
    if done == len(steps):
        return say("</verify>\n</think>")
    heading = f"</verify>\n### Paragraph {done + 1}\n<analyze>\n" if done else ""
    return say(f"{heading}A sum.\n</analyze>\n<verify>\n```python\n{_check(steps[done])}\n```\n")


def with_code(work: Callable[[CodeExecutor], Awaitable[Answer]]) -> Answer:
    """The result of work that runs code for real."""

    async def run() -> Answer:
        executor = CodeExecutor(ExecutorConfig(libraries=("mpmath",), preload=()))
        try:
            return await work(executor)
        finally:
            await executor.shutdown()

    return asyncio.run(run())
