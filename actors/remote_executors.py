"""Code executors as Ray actors, behind the interface of one: the only place in actors/ that knows Ray."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from actors.code_executor import CodeExecutor, CodeResult, ExecutorConfig


class ExecutorLost(RuntimeError):
    """An executor died with a session in it; the row can be tried again from its beginning."""


def start_executors(config: ExecutorConfig) -> list[Any]:
    """Start ``config.num_executors`` actors; a dead one is restarted by Ray, without its sessions."""
    remote_class = ray.remote(CodeExecutor)
    options = {"num_cpus": config.num_cpus, "max_restarts": -1, "max_concurrency": 1000}
    return [remote_class.options(**options).remote(config) for _ in range(config.num_executors)]


def stop_executors(handles: Sequence[Any]) -> None:
    for handle in handles:
        ray.kill(handle)


class RemoteExecutors:
    """Spreads sessions over the actors in turn; a session id carries the number of its actor."""

    def __init__(self, handles: Sequence[Any]) -> None:
        self._handles = list(handles)
        self._next = itertools.cycle(range(len(self._handles)))

    async def open(self) -> str:
        number = next(self._next)
        session = await self._call(number, "open")
        return f"{number}:{session}"

    async def run(self, session: str, code: str) -> CodeResult:
        number, _, name = session.partition(":")
        result: CodeResult = await self._call(int(number), "run", name, code)
        return result

    async def close(self, session: str) -> None:
        number, _, name = session.partition(":")
        try:
            await self._call(int(number), "close", name)
        except ExecutorLost:
            pass  # the actor is gone and took its sessions along

    async def _call(self, number: int, method: str, *arguments: str) -> Any:
        try:
            return await getattr(self._handles[number], method).remote(*arguments)
        except (RayActorError, KeyError) as error:
            raise ExecutorLost(f"code executor {number} died: {error}") from error
