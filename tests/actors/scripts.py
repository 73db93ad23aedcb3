"""Scripted engines for tests: what a model would write, decided by the prompt."""

from __future__ import annotations

import os
import signal

from actors.engine import Completion, EngineError, Finish, Request


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
    import time

    time.sleep(0.05)
    return solver(request)
