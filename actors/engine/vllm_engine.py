"""vLLM, its core in this process or in one of its own: one thread steps the engine, coroutines anywhere wait for their requests.

Flow: ``generate`` renders the chat to token ids, puts the request on a queue and awaits a future. The stepping thread
moves queued requests into vLLM, steps it while anything is unfinished, and completes futures on their own event loops.
Every request put on the queue is answered exactly once: by its completions, by its own error, or by the engine's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import itertools
import os
import queue
import sys
import threading
import time
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple

import psutil

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # `core_process` says so for each engine
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # else each engine binds its threads to all cores, and two share one

import torch
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.llm_engine import LLMEngine

from actors.engine.base import Completion, ContextOverflow, EngineDied, EngineError, Finish, Request, RequestRefused
from actors.engine.chats import chat_tokenizer
from actors.engine.config import VllmEngineConfig
from actors.engine.watcher import watched
from actors.models import hub_name, local_model
from genprm.errors import UserError

SMALLEST_CPU_BLOCK = 32


def check_memory(config: VllmEngineConfig) -> None:
    """ValueError if a KV cache in main memory is asked for that this machine has no room for."""
    available_gib = psutil.virtual_memory().available / (1 << 30)
    if config.num_gpus == 0 and config.kv_cache_gib is not None and config.kv_cache_gib > available_gib:
        raise UserError(f"engine.kv_cache_gib = {config.kv_cache_gib:g}: this machine has {available_gib:.1f} GiB of free memory; set less")


def engine_arguments(config: VllmEngineConfig) -> dict[str, Any]:
    """The arguments of vLLM, whoever starts it."""
    arguments: dict[str, Any] = {
        "model": local_model(config.model),
        "revision": hub_name(config.model)[1],
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "enforce_eager": config.enforce_eager,
        "tensor_parallel_size": max(1, int(config.num_gpus)),
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "enable_prefix_caching": True,
        "disable_log_stats": not config.log_stats,
    }
    if config.num_gpus == 0:
        # A CPU generator can't be rewound, which vLLM does for a seeded request whose prefill is split; and only whole
        # KV blocks are shared between requests, whose default size on CPUs is longer than a short prompt.
        arguments |= {
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(config.max_model_len, 4096),
            "block_size": SMALLEST_CPU_BLOCK,
        }
    if config.num_nodes > 1:
        arguments |= {"pipeline_parallel_size": config.num_nodes, "distributed_executor_backend": "ray"}
    if config.max_num_seqs is not None:
        arguments["max_num_seqs"] = config.max_num_seqs
    if config.kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(config.kv_cache_gib * (1 << 30))
    known = {field.name for field in dataclasses.fields(EngineArgs)}
    for name in config.arguments:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise UserError(f"engine.arguments.{name}: vLLM has no such engine argument" + (f"; did you mean {close[0]}?" if close else ""))
        if name in arguments or name == "seed":
            raise UserError(f"engine.arguments.{name}: it follows from the engine's own settings; take it out")
    return {**arguments, **config.arguments}


def offline_vllm(config: VllmEngineConfig) -> Any:
    """vLLM's own offline interface, started as `VllmEngine` starts it."""
    from vllm import LLM  # takes a while to import, and no worker needs it

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(config.has_core_process))
    return LLM(**engine_arguments(config))


class _Asked(NamedTuple):
    """A request on its way to vLLM."""

    request_id: str
    token_ids: list[int]
    params: SamplingParams
    future: asyncio.Future[Any]


class VllmEngine:
    """The one owner of vLLM. ValueError at construction if the model can't be started."""

    def __init__(self, config: VllmEngineConfig) -> None:
        self._config = config
        check_memory(config)
        # The sampler compiles another kernel for every number of requests that want log-probabilities: a tenth of GenPRM's time.
        if config.enforce_eager:
            torch.compiler.set_stance("force_eager")
        os.environ["VLLM_BATCH_INVARIANT"] = str(int(config.batch_invariant))  # vLLM knows no other way to ask for it
        try:
            arguments = EngineArgs(**engine_arguments(config))
            with watched() if config.has_core_process else nullcontext() as self._watcher:
                self._engine = LLMEngine.from_engine_args(
                    arguments,
                    usage_context=UsageContext.LLM_CLASS,  # what vLLM's batch sizes go by
                    enable_multiprocessing=config.has_core_process,
                    stat_loggers=_ray_loggers() if config.log_stats else None,
                )
        except UserError:
            raise
        except Exception as error:  # vLLM raises of all kinds; what a user needs is which model, and the first line
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(
                f"engine.model = {config.model!r} can't be started ({reason}); check the name or path, that this machine can reach "
                "the model hub if it is no path, and max_model_len and kv_cache_gib against the machine's memory"
            ) from error
        self._chats = chat_tokenizer(self._engine.get_tokenizer(), config)
        self._inbox: queue.SimpleQueue[_Asked | str | None] = queue.SimpleQueue()
        """Requests, ids of those that nobody waits for any more, and None: end."""
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._step_began: float | None = None
        self._ids = itertools.count()
        self._failure: str | None = None
        self.busy_s = 0.0
        """Seconds in which there was something to generate, so far."""
        self.request_s = 0.0
        """The same times the requests in the engine just then: over ``busy_s`` it is how many were served side by side."""
        self._thread = threading.Thread(target=self._step_forever, name="vllm-step", daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name="vllm-watch", daemon=True).start()

    async def generate(self, request: Request) -> list[Completion]:
        token_ids = self._chats.prompt(request.turns, request.prefix_pieces)
        room = self._config.max_model_len - len(token_ids)
        if room < 1:
            raise ContextOverflow(
                f"the prompt has {len(token_ids)} tokens and max_model_len is {self._config.max_model_len}: raise max_model_len"
            )
        try:
            params = sampling_params(request, room, self._config, self._chats.end_of_turn)
        except ValueError as error:
            raise RequestRefused(f"vLLM refused the sampling parameters: {error}") from error
        if self._failure is not None:
            raise EngineDied(f"the engine died: {self._failure}")
        asked = _Asked(str(next(self._ids)), token_ids, params, asyncio.get_running_loop().create_future())
        self._inbox.put(asked)
        try:
            output = await asked.future
        except asyncio.CancelledError:  # nobody waits: the engine need not go on with it
            self._inbox.put(asked.request_id)
            raise
        return [self._completion(item, request) for item in output.outputs]

    def count_tokens(self, text: str) -> int:
        return self._chats.count(text)

    def prefix_cache(self) -> tuple[int, int]:
        """Prompt tokens so far, and how many of them were in the prefix cache; needs ``log_stats``."""
        values = {metric.name: getattr(metric, "value", 0) for metric in self._engine.get_metrics()}
        return int(values["vllm:prefix_cache_queries"]), int(values["vllm:prefix_cache_hits"])

    def close(self) -> None:
        """Stop the thread and free the model; requests in flight fail with EngineError."""
        if self._failure is None:
            self._inbox.put(None)
            self._thread.join(timeout=30)
        self._engine.engine_core.shutdown()
        if self._watcher is not None:
            self._watcher.communicate()

    def _completion(self, item: Any, request: Request) -> Completion:
        """EngineError for one that vLLM gave up: that is neither the model's own end nor a lack of tokens."""
        if item.finish_reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended a request with {item.finish_reason!r}")
        return Completion(
            text=item.text,
            finish=Finish.LENGTH if item.finish_reason == "length" else Finish.STOP,
            num_tokens=len(item.token_ids),
            logprobs_T=tuple({entry.decoded_token or "": entry.logprob for entry in position.values()} for position in item.logprobs or ()),
            ids=self._chats.kept_ids(item.token_ids, item.text) if request.wants_ids else None,
        )

    def _step_forever(self) -> None:
        failure: BaseException = EngineError("the engine was closed")
        try:
            while self._take():
                began, num_requests = time.monotonic(), len(self._waiting)
                self._step_began = began
                outputs = self._engine.step()
                self._step_began = None
                for output in outputs:
                    if output.finished and output.request_id in self._waiting:
                        _resolve(self._waiting.pop(output.request_id), output)
                seconds = time.monotonic() - began
                self.busy_s += seconds
                self.request_s += num_requests * seconds
        except BaseException as error:  # whatever ends this thread must reach those who wait
            failure = error
        self._die(f"{type(failure).__name__}: {failure}" if not isinstance(failure, EngineError) else str(failure))

    def _take(self) -> bool:
        """Move queued requests into vLLM, blocking while there is nothing to do; False when asked to end."""
        while not self._waiting or not self._inbox.empty():
            item = self._inbox.get()
            if item is None:
                return False
            if isinstance(item, str):
                if self._waiting.pop(item, None) is not None:
                    self._engine.abort_request([item])
                continue
            self._waiting[item.request_id] = item.future
            try:
                self._engine.add_request(item.request_id, {"prompt_token_ids": item.token_ids}, item.params)
            except Exception as error:  # the request's fault, or at least no other's
                kind = RequestRefused if isinstance(error, ValueError) else EngineError
                _fail(self._waiting.pop(item.request_id), kind(f"vLLM refused the request: {type(error).__name__}: {error}"))
        return True

    def _watch(self) -> None:
        """Give the engine up when a step hangs or its core has died (a step waits for that forever): those who wait are told, and end the
        process, in which nothing else can be done."""
        while self._failure is None:
            limit = self._config.step_timeout_s
            time.sleep(min(limit / 10, 1.0))
            if self._config.has_core_process:
                try:
                    self._engine.engine_core.ensure_alive()
                except EngineDeadError:
                    self._die("the process of its core ended; the log of the worker says why")
            began = self._step_began
            if began is not None and time.monotonic() - began > limit:
                self._die(f"a step has taken longer than engine.step_timeout_s = {limit:g} s")

    def _die(self, reason: str) -> None:
        """Answer all who wait, and all who will ask."""
        self._failure = self._failure or reason
        with suppress(queue.Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, _Asked):
                    self._waiting[item.request_id] = item.future
        for request_id in list(self._waiting):
            future = self._waiting.pop(request_id, None)
            if future is not None:
                _fail(future, EngineDied(f"the engine died: {reason}"))


def _ray_loggers() -> list[Any] | None:
    """vLLM's metrics as Ray's, in a worker of Ray; None elsewhere."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    return [RayPrometheusStatLogger]


def sampling_params(request: Request, room: int, config: VllmEngineConfig, end_of_turn: int | None = None) -> SamplingParams:
    """vLLM's form of a request's sampling; ``room`` is how many tokens the context still holds. The token that ends a turn stops it,
    whatever the tokenizer calls the end of a sequence."""
    sampling = request.sampling
    stop_ids = [*config.stop_token_ids, *([end_of_turn] if end_of_turn is not None else [])]
    return SamplingParams(
        n=request.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=min(sampling.max_tokens, room),
        stop=list(request.stop) or None,
        stop_token_ids=stop_ids or None,
        include_stop_str_in_output=True,
        seed=request.seed,
        logprobs=request.num_logprobs or None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _resolve(future: asyncio.Future[Any], output: Any) -> None:
    def deliver() -> None:
        if not future.done():
            future.set_result(output)

    future.get_loop().call_soon_threadsafe(deliver)


def _fail(future: asyncio.Future[Any], error: EngineError) -> None:
    def deliver() -> None:
        if not future.done():
            future.set_exception(error)

    future.get_loop().call_soon_threadsafe(deliver)
