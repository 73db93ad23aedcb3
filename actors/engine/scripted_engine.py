"""An engine that a function scripts: same Protocol, chosen outputs and chosen failures, for tests."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Sequence

from actors.engine.base import Completion, EngineError, Request
from actors.engine.config import ScriptedEngineConfig

Script = Callable[[Request], Sequence[Completion] | Awaitable[Sequence[Completion]]]


class ScriptedEngine:
    """Answers ``script(request)``, which may be a coroutine; a script raises EngineError to fail a request."""

    def __init__(self, script: Script) -> None:
        self._script = script

    @classmethod
    def from_config(cls, config: ScriptedEngineConfig) -> ScriptedEngine:
        module, _, name = config.script.partition(":")
        return cls(getattr(importlib.import_module(module), name))

    async def generate(self, request: Request) -> list[Completion]:
        answer = self._script(request)
        completions = list(await answer if inspect.isawaitable(answer) else answer)
        if len(completions) != request.n:
            raise EngineError(f"the script gave {len(completions)} completions for a request of {request.n}")
        return completions

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def close(self) -> None:
        """Nothing to give back."""
