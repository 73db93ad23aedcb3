"""vLLM alone, as many of it as a stage has, to compare a stage with; imported by the benchmarks that start it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import ray

from actors.engine import EngineConfig, Request, Turn, VllmEngineConfig
from genprm.errors import UserError
from workflows.benchmarks.recorded import Asked


def vllm_of(config: EngineConfig, setting: str) -> VllmEngineConfig:
    """The configuration of an engine that can be compared with vLLM; ValueError for any other."""
    if not isinstance(config, VllmEngineConfig):
        raise UserError(f"{setting}.type: this benchmark compares with vLLM, so it must be 'vllm'")
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
    actor = ray.remote(BareVllm).options(num_cpus=config.num_cpus, num_gpus=config.num_gpus)
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


class BareVllm:
    """vLLM's own offline interface with the settings that a stage's engine has."""

    def __init__(self, config: VllmEngineConfig) -> None:
        from actors.engine.chats import chat_tokenizer
        from actors.engine.vllm_engine import offline_vllm

        self._config = config
        self._llm: Any = offline_vllm(config)
        self._chats = chat_tokenizer(self._llm.get_tokenizer(), config)

    def ready(self) -> bool:
        return True

    def generate(self, requests: Sequence[Request], lengths: Sequence[int] | None = None) -> tuple[int, float]:
        """Serve all requests at once, each to exactly its length where ``lengths`` are given; completion tokens and seconds."""
        wanted = [None] * len(requests) if lengths is None else lengths
        prompts, params = zip(*(self._asked(*item) for item in zip(requests, wanted, strict=True)), strict=True)
        began = time.monotonic()
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        seconds = time.monotonic() - began
        return sum(len(item.token_ids) for output in outputs for item in output.outputs), seconds

    def converse(self, conversations: Sequence[Sequence[tuple[Request, int]]]) -> tuple[int, float]:
        """Serve each request of a conversation as soon as the one before it is answered, to exactly its length (of every completion), as
        many conversations side by side as the engine serves requests. Completion tokens and seconds.
        """
        engine = self._llm.llm_engine
        asked = [iter([self._asked(request, length) for request, length in conversation]) for conversation in conversations]
        waiting = iter(range(len(asked)))
        began = time.monotonic()
        tokens = 0

        def go_on(number: int | None) -> None:
            """Ask this conversation's next request, or the first of another one if it has ended."""
            while number is not None:
                following = next(asked[number], None)
                if following is not None:
                    engine.add_request(str(number), *following)
                    return
                number = next(waiting, None)

        for number in itertools.islice(waiting, engine.vllm_config.scheduler_config.max_num_seqs):
            go_on(number)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    tokens += sum(len(item.token_ids) for item in output.outputs)
                    go_on(int(output.request_id))
        return tokens, time.monotonic() - began

    def _asked(self, request: Request, length: int | None = None) -> tuple[dict[str, list[int]], Any]:
        from actors.engine.vllm_engine import sampling_params

        token_ids = self._chats.prompt(request.turns, request.prefix_pieces)
        params = sampling_params(request, self._config.max_model_len - len(token_ids), self._config, self._chats.end_of_turn)
        if length is not None:
            params.max_tokens, params.ignore_eos = length, True
            params.stop, params.stop_token_ids = [], []
        return {"prompt_token_ids": token_ids}, params
