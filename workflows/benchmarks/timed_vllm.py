"""vLLM whose model is a script and whose steps take as long as a GPU's: its scheduler, prefix cache and detokenizer are the real ones.

A worker class of vLLM (its engine argument ``worker_cls``), for engines without a GPU that are to be measured as if they had one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from vllm.v1.core.sched.output import GrammarOutput, NewRequestData, SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, AsyncModelRunnerOutput, ModelRunnerOutput
from vllm.v1.worker.worker_base import CompilationTimes, WorkerBase

from actors.engine.base import Request, Sampling, Turn
from workflows.benchmarks.simulated import STEP_S, completion_of

KV_CACHE_BYTES = 1 << 26
ASSISTANT = "<|im_start|>assistant\n"
FILLER = " and"


class TimedWorker(WorkerBase):
    """Needs a tokenizer whose chats are in ChatML. A step takes `STEP_S`, whatever is in it; the CPU is free meanwhile."""

    def init_device(self) -> None:
        self.device = torch.device("cpu")
        # vLLM's CPU platform turns this off; on a GPU the next step is scheduled while one runs.
        self.vllm_config.scheduler_config.async_scheduling = True

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(self.model_config.tokenizer)
        self._end = self._tokenizer.convert_tokens_to_ids("<|im_end|>")
        (self._filler,) = self._tokenizer.encode(FILLER, add_special_tokens=False)
        self._writing: dict[str, Iterator[int]] = {}
        self._device_is_free = 0.0

    def get_kv_cache_spec(self) -> dict[str, KVCacheSpec]:
        return {"layer": FullAttentionSpec(block_size=self.cache_config.block_size, num_kv_heads=1, head_size=1, dtype=torch.float16)}

    def get_supported_kv_cache_layouts(self) -> list[str]:
        return ["LBNHC"]

    def determine_available_memory(self) -> int:
        return KV_CACHE_BYTES

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        """There is no cache to make."""

    def compile_or_warm_up_model(self) -> CompilationTimes:
        return CompilationTimes(0.0, 0.0)

    def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput | None:
        for ended in scheduler_output.finished_req_ids:
            self._writing.pop(ended, None)
        for new in scheduler_output.scheduled_new_reqs:
            self._writing[new.req_id] = self._tokens(new)
        if not scheduler_output.total_num_scheduled_tokens:
            return EMPTY_MODEL_RUNNER_OUTPUT
        self._device_is_free = max(time.monotonic(), self._device_is_free) + STEP_S
        ids = list(scheduler_output.num_scheduled_tokens)
        sampled = [[next(self._writing[id])] for id in ids]
        self._step = _Step(ModelRunnerOutput(ids, {id: index for index, id in enumerate(ids)}, sampled), self._device_is_free)
        return None

    def sample_tokens(self, grammar_output: GrammarOutput | None) -> AsyncModelRunnerOutput:
        return self._step

    def _tokens(self, new: NewRequestData) -> Iterator[int]:
        """Of what the script says, as many as it says, the end of the turn, and no end after it."""
        text = self._tokenizer.decode(new.prompt_token_ids)
        user, _, prefix = text.rpartition(ASSISTANT)
        seed = new.sampling_params.seed or 0
        request = Request(turns=(Turn(role="user", content=user),), prefix=prefix, sampling=Sampling(), seed=seed)
        completion = completion_of(request, 0, with_code=True)
        ids = self._tokenizer.encode(completion.text, add_special_tokens=False)
        yield from [self._filler] * (completion.num_tokens - len(ids) - 1)
        yield from ids
        while True:
            yield self._end


@dataclass
class _Step(AsyncModelRunnerOutput):
    output: ModelRunnerOutput
    ready_at: float

    def get_output(self) -> ModelRunnerOutput:
        time.sleep(max(0.0, self.ready_at - time.monotonic()))
        return self.output
