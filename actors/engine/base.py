"""What every engine takes and gives."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import Field

from genprm.section import Section


class EngineError(RuntimeError):
    """A request that the engine could not serve after its retries: says nothing about the request, which can be made again."""


class RequestRefused(EngineError):
    """A request that the engine does not serve, however often it is made."""


class ContextOverflow(RequestRefused):
    """A request whose prompt leaves no room for a token in the model's context."""


class EngineDied(EngineError):
    """The engine is gone for every request: its process must be restarted, and its rows retried."""


class Finish(enum.StrEnum):
    """Why a completion ended: by itself or at a stop string, or because its tokens ran out."""

    STOP = "stop"
    LENGTH = "length"


class Sampling(Section):
    """Sampling parameters of one role; ``top_k`` 0 means no limit."""

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_tokens: int = Field(default=2048, ge=1)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of an assistant's turn that is made into tokens by itself: what was written at a time.

    ``ids`` are the tokens that a model wrote, where they are known. In ``is_data`` text (the output of code) nothing is a special token,
    in other text the tags of critiques may be (`genprm.rationale.TAGS`).
    """

    text: str
    ids: tuple[int, ...] | None = None
    is_data: bool = False


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One finished turn of a conversation; ``role`` is system, user or assistant, ``pieces`` are those of ``content`` if it was written
    here."""

    role: str
    content: str
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """Continue a conversation ``n`` times.

    ``prefix`` is the beginning of the assistant's turn, continued to the byte, and ``pieces`` are those of it (none: it is one, our own
    pre-fill); ``seed`` makes completion i of the request depend on (seed, i) only. ``stop`` strings end a completion and are part of its
    text. ``num_logprobs`` alternatives per token are returned if positive, the tokens' ids with ``wants_ids``.
    """

    turns: tuple[Turn, ...]
    prefix: str
    sampling: Sampling
    seed: int
    n: int = 1
    stop: tuple[str, ...] = ()
    num_logprobs: int = 0
    pieces: tuple[Piece, ...] = ()
    wants_ids: bool = False

    def __post_init__(self) -> None:
        if self.pieces and "".join(piece.text for piece in self.pieces) != self.prefix:
            raise ValueError("the pieces of a request are not those of its prefix")

    @property
    def prefix_pieces(self) -> tuple[Piece, ...]:
        return self.pieces or ((Piece(text=self.prefix),) if self.prefix else ())


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One continuation: its text (after the prefix), why it ended, and its length in tokens.

    ``logprobs_T[i]`` maps alternatives at token i (as text) to log-probabilities; empty unless asked for. ``ids`` are the tokens of
    ``text``, None unless they were asked for and can be had.
    """

    text: str
    finish: Finish
    num_tokens: int
    logprobs_T: tuple[Mapping[str, float], ...] = field(default=())
    ids: tuple[int, ...] | None = None

    @property
    def piece(self) -> Piece:
        """Of a turn that goes on after it."""
        return Piece(text=self.text, ids=self.ids)


class Engine(Protocol):
    """Serves many requests at once; a caller keeps hundreds of coroutines in flight."""

    async def generate(self, request: Request) -> list[Completion]:
        """``request.n`` completions; EngineError if they can't be had, RequestRefused if they never can."""
        ...

    def count_tokens(self, text: str) -> int | None:
        """How many tokens a text has by itself; None if the engine's tokenizer is out of reach."""
        ...

    def close(self) -> None:
        """Give back memory and processes."""
        ...


def derive_seed(run_seed: int, row_id: str, purpose: str, index: int = 0) -> int:
    """The seed of one random choice: a row's result does not depend on its neighbours, on order or on retries."""
    digest = hashlib.sha256(f"{run_seed}|{row_id}|{purpose}|{index}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big")
