"""vLLM alone, as many of it as a stage has, to compare a stage with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from actors.engine import EngineConfig, Request, Turn, VllmEngineConfig
from workflows.benchmarks.recorded import Asked


def vllm_of(config: EngineConfig, setting: str) -> VllmEngineConfig:
    """The configuration of an engine that can be compared with vLLM; ValueError for any other."""
    if not isinstance(config, VllmEngineConfig):
        raise ValueError(f"{setting}.type: this benchmark compares with vLLM, so it must be 'vllm'")
    return config


def serve_bare(
    config: VllmEngineConfig, num_engines: int, requests: Sequence[Request], lengths: Sequence[int] | None = None
) -> tuple[int, float]:
    """Serve all requests with vLLM's offline interface, spread over engines: completion tokens, and the slowest engine's seconds.

    With ``lengths`` request i is written on to exactly so many tokens, whatever the model would do.
    """
    shares = [slice(index, None, num_engines) for index in range(num_engines)]
    return _serve(config, "generate", [(requests[share], None if lengths is None else lengths[share]) for share in shares])


def converse_bare(config: VllmEngineConfig, num_engines: int, asked: Sequence[Asked]) -> tuple[int, float]:
    """Ask bare vLLM what conversations asked, spread over engines: each request of a conversation (those with the same turns) right after
    the one before it, and its completions exactly as long together as they were.
    """
    conversations: dict[tuple[Turn, ...], list[tuple[Request, int]]] = {}
    for item in asked:
        conversations.setdefault(item.request.turns, []).append((item.request, max(1, round(item.num_tokens / item.request.n))))
    spread = list(conversations.values())
    return _serve(config, "converse", [(spread[index::num_engines],) for index in range(num_engines)])


def _serve(config: VllmEngineConfig, method: str, shares: Sequence[tuple[Any, ...]]) -> tuple[int, float]:
    """A method of as many engines as there are shares, each with its arguments."""
    actor = ray.remote(_Bare).options(num_cpus=config.num_cpus, num_gpus=config.num_gpus)
    engines = [actor.remote(config) for _ in shares]
    ray.get([engine.ready.remote() for engine in engines])
    served = ray.get([getattr(engine, method).remote(*share) for engine, share in zip(engines, shares, strict=True)])
    for engine in engines:
        ray.kill(engine)
    return sum(tokens for tokens, _ in served), max(seconds for _, seconds in served)


def compared(stage: tuple[int, float], bare: tuple[int, float]) -> dict[str, object]:
    """Tokens a second of both, each given as (tokens, seconds), and their ratio; printed, too."""
    rates = {}
    for name, (tokens, seconds) in (("stage", stage), ("bare", bare)):
        rates[name] = tokens / seconds
        print(f"{name + ':':6} {tokens:,} tokens in {seconds:.1f} s, {rates[name]:,.0f} tokens/s", flush=True)
    return {
        "ratio": round(rates["stage"] / rates["bare"], 3),
        "stage_tokens_per_s": round(rates["stage"]),
        "bare_tokens_per_s": round(rates["bare"]),
        "tokens": stage[0],
    }


class _Bare:
    """vLLM alone in an actor with a stage's resources."""

    def __init__(self, config: VllmEngineConfig) -> None:
        from actors.engine.vllm_engine import BareVllm

        self._llm = BareVllm(config)

    def ready(self) -> bool:
        return True

    def generate(self, requests: list[Request], lengths: list[int] | None) -> tuple[int, float]:
        return self._llm.generate(requests, lengths)

    def converse(self, conversations: list[list[tuple[Request, int]]]) -> tuple[int, float]:
        return self._llm.converse(conversations)
