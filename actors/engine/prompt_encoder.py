"""Chats to token ids, quickly for conversations that grow."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from actors.engine.base import Turn

_MARK = "the assistant's words begin here"


class PromptEncoder:
    """A conversation is asked about many times as it grows, so its rendering and its ids up to the last turn are kept.

    Tokenizers cut a text at its special tokens before anything else, so what stands before the last one can be encoded by
    itself; a probe at construction makes sure of it, and a tokenizer that fails it is given whole texts.
    """

    def __init__(self, tokenizer: Any, *, kept: int = 4096) -> None:
        self._tokenizer = tokenizer
        self._special = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        self._head = lru_cache(maxsize=kept)(self._encode)
        self._chat = lru_cache(maxsize=kept)(self._render)
        probe = self._render((Turn(role="user", content="1 +  1\n\n= 2?"),)) + "\n Step 1: so"
        self._splits = self._pieces(probe) == self._encode(probe)

    def __call__(self, turns: tuple[Turn, ...], prefix: str) -> list[int]:
        """The rendered chat with the assistant's turn begun by ``prefix``."""
        text = self._chat(turns)
        return self._pieces(text + prefix, len(text)) if self._splits else self._encode(text + prefix)

    def render(self, turns: tuple[Turn, ...], prefix: str) -> str:
        """The text that is encoded."""
        return self._chat(turns) + prefix

    def count(self, text: str) -> int:
        """How many tokens a text has by itself."""
        return len(self._encode(text))

    def _render(self, turns: tuple[Turn, ...]) -> str:
        """The chat up to where the assistant's words begin, as training renders it.

        Not the template's generation prompt: those of reasoning models open a thought there, which a finished turn (in
        training) does not have and which our own pre-fills open where it is wanted.
        """
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        messages.append({"role": "assistant", "content": _MARK})
        rendered: str = self._tokenizer.apply_chat_template(messages, tokenize=False)
        if _MARK not in rendered:
            raise ValueError("the tokenizer's chat template leaves the assistant's turn out; use a model whose template shows it")
        return rendered[: rendered.rindex(_MARK)]

    def _pieces(self, text: str, end: int | None = None) -> list[int]:
        cut = max((text.rfind(token, 0, end) + len(token) for token in self._special if token in text[:end]), default=0)
        return self._head(text[:cut]) + self._encode(text[cut:]) if cut else self._encode(text)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
