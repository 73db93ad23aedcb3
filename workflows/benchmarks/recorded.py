"""An engine that leaves what it was asked in a file, so that bare vLLM can be given the same."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from actors.engine import Completion, Request

if TYPE_CHECKING:
    from actors.engine.vllm_engine import VllmEngine


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, and how many tokens its completions had together."""

    request: Request
    num_tokens: int


class RecordingEngine:
    """Keeps what it is asked in memory and writes it out now and then, and whenever nothing is in flight: rarely enough to cost nothing.

    The engine must keep its metrics (``log_stats``).
    """

    EVERY_S = 10.0

    def __init__(self, engine: VllmEngine, folder: Path, name: str) -> None:
        self._engine = engine
        self._requests = (folder / f"{name}.requests").open("wb", buffering=0)
        self._prefix = folder / f"{name}.prefix"
        self._asked: list[Asked] = []
        self._in_flight = 0
        self._written = time.monotonic()

    async def generate(self, request: Request) -> list[Completion]:
        self._in_flight += 1
        try:
            completions = await self._engine.generate(request)
        finally:
            self._in_flight -= 1
        self._asked.append(Asked(request=request, num_tokens=sum(completion.num_tokens for completion in completions)))
        if self._in_flight == 0 or time.monotonic() - self._written > self.EVERY_S:
            self._requests.write(b"".join(pickle.dumps(asked) for asked in self._asked))
            self._prefix.write_text("{} {}".format(*self._engine.prefix_cache()))
            self._asked.clear()
            self._written = time.monotonic()
        return completions

    def count_tokens(self, text: str) -> int:
        return self._engine.count_tokens(text)

    def close(self) -> None:
        self._engine.close()


def asked(folder: Path) -> list[Asked]:
    """All that was asked of the engines that recorded there, in the order in which each answered."""
    return [item for file in folder.glob("*.requests") for item in _read(file)]


def prefix_hit_rate(folder: Path) -> float:
    """Of the prompt tokens of these engines, the share that was in the prefix cache."""
    counts = [[int(number) for number in file.read_text().split()] for file in folder.glob("*.prefix")]
    return sum(found for _, found in counts) / sum(looked_up for looked_up, _ in counts)


def _read(file: Path) -> Iterator[Asked]:
    with file.open("rb") as stream:
        while stream.peek(1):
            yield pickle.load(stream)
