"""Any OpenAI-compatible endpoint, through the openai client: chats as token ids where its tokenizer is known, else as text."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, OpenAI

from actors.chat_tokenizer import ChatTokenizer
from actors.engine.base import Completion, ContextOverflow, EngineError, Finish, Request, RequestRefused, Sampling, Turn
from actors.engine.chats import load_chat_tokenizer
from actors.engine.config import HttpEngineConfig
from actors.engine.endpoints import Endpoints
from genprm.errors import UserError

LARGEST_SEED = 2**31 - 1
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LONGEST_WAIT_S = 300.0
REFUSALS = (400, 413, 414, 422)
"""What is wrong with the request itself; all other errors, a wrong key among them, may be gone when it is made again."""
OVERFLOW = re.compile(r"context.{0,20}length|max_model_len|too long|too many tokens|longer than", re.IGNORECASE)
"""How servers say that a prompt does not fit."""
KEEP_STOPS = {"include_stop_str_in_output": True, "no_stop_trim": True}
"""Leave stop strings in the text: vLLM's and SGLang's words for it."""
REASONING_PARSER = (
    "gives all that was written as reasoning and none as content; start the server without a reasoning parser, or name the model's folder "
    "in engine.tokenizer"
)
FINISHED = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence"), Finish.STOP),
    **dict.fromkeys(("length", "max_tokens"), Finish.LENGTH),
}
"""Any other reason (an abort, none at all) means that the text is not what the model would have written."""


class HttpEngine:
    """Requests with retries: 408, 409, 429, 5xx, broken connections, timeouts and answers that are none are tried again.

    The pauses double, and are no shorter than the endpoint asks for (Retry-After); ``timeout_s`` is for one try.

    Raises ValueError at construction if the key's environment variable is not set.
    """

    def __init__(self, config: HttpEngineConfig) -> None:
        key = os.environ.get(config.api_key_env)
        if not key:
            raise UserError(
                f"engine.api_key_env = {config.api_key_env!r}: this environment variable is not set; export it "
                "(any text will do for a server without keys)"
            )
        self._config = config
        self._key = key
        self._chats = load_chat_tokenizer(config.tokenizer, config) if config.tokenizer is not None else None
        self._endpoints = Endpoints(config.base_urls)
        self._ignores_n = self._cuts_stops = False
        self._clients: dict[asyncio.AbstractEventLoop, tuple[Sequence[AsyncOpenAI], asyncio.Semaphore]] = {}

    def check(self) -> None:
        """Ask for a few tokens: ValueError, with the setting to change, if the endpoint can't be had or does not serve such requests.

        Learns whether it gives ``n`` choices, and whether it leaves stop strings in the text or says at which it stopped.
        """
        config = self._config
        failures = []
        for url in config.base_urls:
            try:
                self._check(url)
            except UserError as error:
                failures.append(error)
        if len(failures) == len(config.base_urls):
            raise failures[0]
        for failure in failures:
            _note(f"warning: {failure}; the other endpoints serve meanwhile")
        name = f"engine {config.model!r} at {', '.join(config.base_urls)}"
        if self._chats is None:
            _note(
                f"{name}: chats are sent as text, which its own template makes into tokens; name the model's folder in engine.tokenizer "
                "to have them sent as ids"
            )
        if self._ignores_n:
            _note(f"{name}: it gives one choice whatever n is, so n requests are made instead of one")

    def _check(self, url: str) -> None:
        config = self._config
        prefix = "" if config.continuation == "none" and self._chats is None else "1, 2, 3, 4,"
        turns = (Turn(role="user", content="Count from 1 to 9."),)
        request = Request(turns=turns, prefix=prefix, sampling=Sampling(max_tokens=8, temperature=0.01), seed=0, n=2, stop=("5",))
        try:
            with OpenAI(base_url=url, api_key=self._key, timeout=config.timeout_s, max_retries=config.max_retries) as client:
                endpoint = client.chat.completions if self._chats is None else client.completions
                try:
                    answer = endpoint.create(**self._arguments(request))
                except APIStatusError as error:
                    if error.status_code not in REFUSALS:
                        raise
                    request = replace(request, n=1)  # which may be all that it gives
                    answer, self._ignores_n = endpoint.create(**self._arguments(request)), True
            choices = getattr(answer, "choices", None) or []
            if len(choices) == 1:
                self._ignores_n, request = True, replace(request, n=1)
            (first, *_) = self._completions(answer, request, url)
        except APIStatusError as error:
            setting = {
                401: f"engine.api_key_env = {config.api_key_env!r}",
                403: f"engine.api_key_env = {config.api_key_env!r}",
                404: f"engine.model = {config.model!r}",
            }.get(error.status_code, f"engine.continuation = {config.continuation!r}")
            raise UserError(
                f"{setting}: {url} refuses a first request with HTTP {error.status_code}: {error.message}; "
                "name what the server has and can do"
            ) from error
        except (APIConnectionError, ValueError) as error:
            raise UserError(
                f"engine.base_url = {url!r}: no chat endpoint answers there ({error}); start the server, or change the address "
                "(it mostly ends in /v1)"
            ) from error
        except EngineError as error:
            raise UserError(f"engine.base_url = {url!r}: {error}") from error
        stopped = choices[0].finish_reason in FINISHED and FINISHED[choices[0].finish_reason] is Finish.STOP
        if prefix and stopped and _stopped_at(choices[0]) is None and not first.text.rstrip(" ,").endswith("5"):
            self._cuts_stops = first.text.strip(" ,") == "" and self._cuts_at_nine(url, request)
        if self._chats is None and not first.text and _reasoning(choices[0].message) and config.continuation == "vllm":
            raise UserError(f"engine.base_url = {url!r}: {REASONING_PARSER}")
        if self._chats is None and getattr(answer, "usage", None) is None:
            _note(f"warning: {url} does not say how many tokens it wrote, so none are counted; name the model's folder in engine.tokenizer")

    def _cuts_at_nine(self, url: str, request: Request) -> bool:
        """Whether a server that gave nothing before a 5 gives what stands before a 9: it cuts the stop string, the model did not end."""
        later = replace(request, n=1, stop=("9",), sampling=request.sampling.model_copy(update={"max_tokens": 32}))
        with OpenAI(base_url=url, api_key=self._key, timeout=self._config.timeout_s) as client:
            answer = (client.chat.completions if self._chats is None else client.completions).create(**self._arguments(later))
        return "8" in self._completions(answer, later, url)[0].text

    async def generate(self, request: Request) -> list[Completion]:
        if self._cuts_stops and request.stop:
            raise EngineError(
                f"{', '.join(self._config.base_urls)} cuts stop strings off and does not say at which it stopped, so that code would never "
                "be run; use a server that leaves them (vLLM's own, SGLang's), or name the model's folder in engine.tokenizer if it is one"
            )
        if self._ignores_n and request.n > 1:
            single = [replace(request, n=1, seed=request.seed + index) for index in range(request.n)]
            return [completion for (completion,) in await asyncio.gather(*map(self.generate, single))]
        arguments = self._arguments(request)
        clients, semaphore = self._client()
        async with semaphore:
            return await self._ask(clients, arguments, request)

    def count_tokens(self, text: str) -> int | None:
        """None where the endpoint's tokenizer is not known."""
        return None if self._chats is None else self._chats.count(text)

    def _client(self) -> tuple[Sequence[AsyncOpenAI], asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            config = self._config
            clients = [AsyncOpenAI(base_url=url, api_key=self._key, timeout=config.timeout_s, max_retries=0) for url in config.base_urls]
            self._clients[loop] = (clients, asyncio.Semaphore(config.max_in_flight))
        return self._clients[loop]

    def _arguments(self, request: Request) -> dict[str, Any]:
        return self._chat_arguments(request) if self._chats is None else self._token_arguments(self._chats, request)

    def _token_arguments(self, chats: ChatTokenizer, request: Request) -> dict[str, Any]:
        """Of the completions endpoint, with the prompt's ids."""
        stop_ids = [*self._config.stop_token_ids, *([chats.end_of_turn] if chats.end_of_turn is not None else [])]
        extra = {
            "include_stop_str_in_output": True,
            "no_stop_trim": True,
            "return_token_ids": request.wants_ids,
            "stop_token_ids": stop_ids,
        }
        if request.sampling.top_k:
            extra["top_k"] = request.sampling.top_k
        arguments = {"prompt": chats.prompt(request.turns, request.prefix_pieces), **self._sampling_arguments(request), "extra_body": extra}
        if request.num_logprobs:
            arguments["logprobs"] = request.num_logprobs
        return arguments

    def _sampling_arguments(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        arguments: dict[str, Any] = {
            "model": self._config.model,
            "n": request.n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request.seed % LARGEST_SEED,
        }
        if request.stop:
            arguments["stop"] = list(request.stop)
        return arguments

    def _chat_arguments(self, request: Request) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": turn.role, "content": turn.content} for turn in request.turns]
        sampling = request.sampling
        extra: dict[str, Any] = {}
        if self._config.continuation == "vllm":
            extra |= KEEP_STOPS
            if sampling.top_k:
                extra["top_k"] = sampling.top_k
        if request.prefix:
            if self._config.continuation == "none":
                raise EngineError(
                    "engine.continuation = 'none': this endpoint can't continue an assistant turn, which this stage needs; "
                    "use a server that can (vLLM's own does, with continuation = 'vllm')"
                )
            last: dict[str, Any] = {"role": "assistant", "content": request.prefix}
            if self._config.continuation == "prefix":
                last["prefix"] = True
            else:
                extra |= {"continue_final_message": True, "add_generation_prompt": False}
            messages.append(last)
        arguments = {"messages": messages, **self._sampling_arguments(request), "extra_body": extra}
        if request.num_logprobs:
            arguments |= {"logprobs": True, "top_logprobs": request.num_logprobs}
        return arguments

    async def _ask(self, clients: Sequence[AsyncOpenAI], arguments: dict[str, Any], request: Request) -> list[Completion]:
        key = zlib.crc32(request.turns[0].content.encode() + request.turns[min(1, len(request.turns) - 1)].content.encode())
        for attempt in range(self._config.max_retries + 1):
            with self._endpoints.chosen(key) as number:
                url, client = self._endpoints.urls[number], clients[number]
                try:
                    endpoint = client.chat.completions if self._chats is None else client.completions
                    completions = self._completions(await endpoint.create(**arguments), request, url)
                except (APIConnectionError, APITimeoutError) as error:
                    failure: Exception = error
                except APIStatusError as error:
                    failure = error
                    if error.status_code in REFUSALS:
                        self._endpoints.succeed(number)
                        kind = ContextOverflow if OVERFLOW.search(str(error.message)) else RequestRefused
                        raise kind(f"{url} refused: HTTP {error.status_code}: {error.message}") from error
                    is_lasting = error.status_code not in (408, 409, 429) and error.status_code < 500  # a wrong key, no such model
                    if is_lasting and len(clients) == 1:
                        raise EngineError(f"{url} refused: HTTP {error.status_code}: {error.message}") from error
                except ValueError as error:  # an answer that is no JSON, or not the whole of one
                    failure = error
                else:
                    self._endpoints.succeed(number)
                    return completions
                self._endpoints.fail(number)
            if attempt < self._config.max_retries:
                await asyncio.sleep(max(min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S), _retry_after(failure)))
        raise EngineError(f"{url} failed {self._config.max_retries + 1} times, last with {type(failure).__name__}: {failure}") from failure

    def _completions(self, answer: Any, request: Request, url: str) -> list[Completion]:
        """ValueError for an answer that may be better another time, RequestRefused for one that will not."""
        choices = sorted(getattr(answer, "choices", None) or [], key=lambda choice: getattr(choice, "index", None) or 0)
        if len(choices) != request.n:
            said = getattr(answer, "error", None) or (answer if isinstance(answer, str) else "")
            raise ValueError(f"{len(choices)} choices for n = {request.n}" + (f"; it says {str(said)[:300]!r}" if said else ""))
        total = getattr(getattr(answer, "usage", None), "completion_tokens", None)
        completions = []
        for index, choice in enumerate(choices):
            if choice.finish_reason == "content_filter":
                raise RequestRefused(f"{url} filtered choice {index}")
            if choice.finish_reason not in FINISHED or (self._chats is None and choice.message is None):
                raise ValueError(f"choice {index} is not finished (finish_reason {choice.finish_reason!r})")
            text = _clean((choice.message.content if self._chats is None else choice.text) or "")
            if not text and FINISHED[choice.finish_reason] is Finish.STOP and self._chats is None and _reasoning(choice.message):
                raise EngineError(f"{url} {REASONING_PARSER}")
            logprobs_T = _logprobs(choice.logprobs)
            if request.num_logprobs and text and not any(logprobs_T):
                raise EngineError(
                    f"{url} gives no log-probabilities, which a verifier's rewards are made of; use a server that does (vLLM's own)"
                )
            stopped_at = _stopped_at(choice)
            if stopped_at in request.stop:  # cut off, or kept with the rest of its token
                text = text.partition(stopped_at)[0] + stopped_at
            token_ids = getattr(choice, "token_ids", None) if request.wants_ids else None
            completions.append(
                Completion(
                    text=text,
                    finish=FINISHED[choice.finish_reason],
                    num_tokens=self._num_tokens(text, logprobs_T) if total is None else total // request.n + (index < total % request.n),
                    logprobs_T=logprobs_T,
                    ids=self._chats.kept_ids(token_ids, text) if self._chats is not None and token_ids else None,
                )
            )
        return completions

    def _num_tokens(self, text: str, logprobs_T: Sequence[object]) -> int:
        """Of a completion whose endpoint does not say it: as many as have log-probabilities, or as our tokenizer counts, or 0."""
        return len(logprobs_T) or self.count_tokens(text) or 0

    def close(self) -> None:
        """Connections close with the process."""
        self._clients.clear()


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stopped_at(choice: Any) -> str | None:
    """The stop string that ended it, where the server says so (vLLM, SGLang)."""
    found = getattr(choice, "stop_reason", None) or getattr(choice, "matched_stop", None)
    return found if isinstance(found, str) else None


def _clean(content: Any) -> str:
    """The text of a content that may come in parts, without halves of characters, which no file can hold."""
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content if isinstance(part, dict) and part.get("type") == "text")
    return str(content).encode("utf-8", "replace").decode("utf-8")


def _reasoning(message: Any) -> str:
    """What a server with a reasoning parser took out of the content (vLLM and DeepSeek name it differently)."""
    return getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or ""


def _retry_after(failure: Exception) -> float:
    """How many seconds the endpoint asks to be left alone, at most `LONGEST_WAIT_S`."""
    text = failure.response.headers.get("retry-after", "") if isinstance(failure, APIStatusError) else ""
    return min(float(text), LONGEST_WAIT_S) if re.fullmatch(r"\d{1,6}(\.\d+)?", text) else 0.0


def _logprobs(found: Any) -> tuple[dict[str, float], ...]:
    """The alternatives at each token, in the form of either endpoint; empty where there are none."""
    if found is None:
        return ()
    content = getattr(found, "content", None)
    if content is not None:
        return tuple({item.token: item.logprob for item in position.top_logprobs} for position in content)
    return tuple(dict(position or {}) for position in getattr(found, "top_logprobs", None) or ())
