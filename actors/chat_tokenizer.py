"""Chats to token ids, alike for prompts and for training.

A chat is cut into pieces, each is encoded by itself, and the ids are joined: what the template puts around the turns, each turn's text,
and inside an assistant's turn whatever was written at a time: a pre-fill, what the model wrote until it was interrupted, the output of
its code. Training cuts a finished turn at the same places (`genprm.conversation`), so it sees the ids that inference sees, whatever the
tokenizer joins. What the model wrote keeps the ids that it wrote.

Only the template may contain any special token. In an assistant's turn the tags of critiques are tokens if the tokenizer has them; all
else, and everything in problems, solutions, code output and other data, is text.

Every assistant's turn is put between what the template puts around an earlier turn, the last one too: templates that cut the thoughts of
earlier turns, add a thought to the last one or refuse it there still give one form to each turn. A template without a system role gets
the system's text at the beginning of the first user's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers.utils import cached_file

from actors.engine.base import Piece, Turn
from genprm import rationale
from genprm.errors import UserError
from genprm.records import Message

LONGEST_TAIL = 16
"""A stop string is at most so many tokens."""
EXPORT_FACTS = "genprm.json"
"""Beside an exported model: what it was trained from and with, its template's hash among it."""
_MARK = "text-{}-of-the-chat"
_PROBE = ("Let's see: ", "The 1 +  1\n\n= 2?\tÉ", " so", "\n", "二 \U0001f600")


@dataclass(frozen=True, kw_only=True)
class TokenizedConversation:
    """``ids_T`` of the whole conversation; ``loss_T[i]`` says whether token i carries loss (as a target)."""

    ids_T: list[int]
    loss_T: list[bool]


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What a template puts around the texts of turns with certain roles: ``around[i]`` stands before text i."""

    around: tuple[str, ...]
    folds_system: bool


class ChatTokenizer:
    """``tokenizer`` is a fast tokenizer of transformers with a chat template. UserError where its chats can't be cut into pieces.

    ``last_as_earlier``: a turn that is being written begins as the earlier ones do; else as the template shows the last one.
    """

    def __init__(self, tokenizer: Any, *, last_as_earlier: bool = True, kept: int = 4096) -> None:
        self._tokenizer = tokenizer
        self._last_as_earlier = last_as_earlier
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not getattr(tokenizer, "chat_template", None):
            raise UserError("the tokenizer has no chat template; put a chat_template.jinja into the model's folder")
        if backend is None:
            raise UserError(f"the tokenizer {type(tokenizer).__name__} has no tokenizer.json; use a model that has one")
        description = json.loads(backend.to_str())
        _check_own_ids(tokenizer)
        self._special = set(tokenizer.all_special_ids)
        self._added = {token["id"] for token in description["added_tokens"]}
        self._markup = _tokenizer(description, {token["content"] for token in description["added_tokens"]})
        self._tagged = _tokenizer(description, rationale.TAGS)
        self._plain = _tokenizer(description, ())
        self._check_pieces()
        self._frame = lru_cache(maxsize=kept)(self._make_frame)
        self._markup_ids = lru_cache(maxsize=kept)(lambda text: tuple(_encode(self._markup, text)))
        self._text_ids = lru_cache(maxsize=kept)(lambda text, is_data: tuple(_encode(self._plain if is_data else self._tagged, text)))
        self._turn_ids = lru_cache(maxsize=kept)(self._make_turn_ids)
        self.end_of_turn = self._end_of_turn()

    def prompt(self, turns: Sequence[Turn], prefix: Sequence[Piece]) -> list[int]:
        """The chat, its last turn an assistant's that begins with ``prefix``."""
        frame = self._frame((*(turn.role for turn in turns), "assistant"))
        ids: list[int] = []
        for markup, turn in zip(frame.around, _folded(turns, frame), strict=False):
            ids += self._markup_ids(markup)
            ids += self._turn_ids(turn)
        ids += self._markup_ids(frame.around[-1])
        for piece in prefix:
            ids += self.ids(piece)
        return ids

    def prompt_text(self, turns: Sequence[Turn], prefix: Sequence[Piece]) -> str:
        """The text of `prompt`, for servers that take no ids and for people."""
        frame = self._frame((*(turn.role for turn in turns), "assistant"))
        texts = [markup + turn.content for markup, turn in zip(frame.around, _folded(turns, frame), strict=False)]
        return "".join((*texts, frame.around[-1], *(piece.text for piece in prefix)))

    def conversation(self, messages: Sequence[Message]) -> TokenizedConversation:
        """A finished conversation for training, cut at the borders of its loss spans; the end of a turn with loss carries it, too."""
        frame = self._frame(tuple(message.role for message in messages))
        folded = _folded([Turn(role=message.role, content=message.content) for message in messages], frame)
        ids: list[int] = []
        loss: list[bool] = []

        def add(more: Sequence[int], carries_loss: bool) -> None:
            ids.extend(more)
            loss.extend([carries_loss] * len(more))

        ended = False
        for markup, turn, message in zip(frame.around, folded, messages[len(messages) - len(folded) :], strict=False):
            around = list(self._markup_ids(markup))
            if ended:  # the end of the turn before
                number = _through_first(around, self._added)
                add(around[:number], True)
                around = around[number:]
            add(around, False)
            for text, carries_loss in _cut(turn.content, message):
                is_output = not carries_loss and text.startswith(rationale.CODE_OUTPUT)
                if is_output:
                    add(self._text_ids(rationale.CODE_OUTPUT, False), False)
                    text = text.removeprefix(rationale.CODE_OUTPUT)
                add(self._text_ids(text, is_output or turn.role != "assistant"), carries_loss)
            ended = bool(message.loss_spans)
        if messages[-1].role == "assistant":
            closing = list(self._markup_ids(self._frame((*(message.role for message in messages), "user")).around[-1]))
            add(closing[: _through_first(closing, self._added)], ended)
        return TokenizedConversation(ids_T=ids, loss_T=loss)

    def ids(self, piece: Piece) -> tuple[int, ...]:
        """Of a piece of a turn: those that the model wrote, or those of its text."""
        return self._text_ids(piece.text, piece.is_data) if piece.ids is None else piece.ids

    def kept_ids(self, ids: Sequence[int], text: str) -> tuple[int, ...]:
        """The ids of what a model wrote, without those after the ``text`` that was kept of it (it ends at a stop string, or before the
        end of the turn); a token that goes beyond gives way to those of its beginning."""
        kept = list(ids)
        while kept and kept[-1] in self._special:
            kept.pop()
        for number in range(len(kept), max(-1, len(kept) - LONGEST_TAIL), -1):
            head = self._tokenizer.decode(kept[:number], skip_special_tokens=True)
            if text.startswith(head):
                return (*kept[:number], *self._text_ids(text[len(head) :], False))
        return self._text_ids(text, False)

    def count(self, text: str) -> int:
        """How many tokens a text has by itself."""
        return len(self._text_ids(text, False))

    def _make_turn_ids(self, turn: Turn) -> tuple[int, ...]:
        pieces = turn.pieces or (Piece(text=turn.content, is_data=turn.role != "assistant"),)
        return tuple(number for piece in pieces for number in self.ids(piece))

    def _make_frame(self, roles: tuple[str, ...]) -> _Frame:
        """Rendered with marks for texts; an assistant's turn at the end is followed by another turn, so that it is an earlier one."""
        rendered = self._render(roles)
        if rendered is not None:
            return _Frame(around=rendered, folds_system=False)
        if roles[0] == "system" and (rendered := self._render(roles[1:])) is not None:
            return _Frame(around=rendered, folds_system=True)
        raise UserError(
            f"the tokenizer's chat template does not show the texts of a chat of {', '.join(roles)} in their order; put a "
            "chat_template.jinja that does into the model's folder"
        )

    def _render(self, roles: tuple[str, ...]) -> tuple[str, ...] | None:
        """What stands before each text; None where a text is missing or the template refuses the chat."""
        shown = (*roles, "user") if roles[-1] == "assistant" and self._last_as_earlier else roles
        messages = [{"role": role, "content": _MARK.format(index)} for index, role in enumerate(shown)]
        try:
            text: str = self._tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError:  # raised by the template, for a role that it does not know, say
            return None
        around = []
        for index in range(len(roles)):
            mark = _MARK.format(index)
            before, found, text = text.partition(mark)
            if not found or mark in text:
                return None
            around.append(before)
        return tuple(around)

    def _end_of_turn(self) -> int | None:
        """The token that ends an assistant's turn; None where the template writes none."""
        closing = self._markup_ids(self._frame(("user", "assistant", "user")).around[-1])
        return next((number for number in closing if number in self._added), None)

    def _check_pieces(self) -> None:
        """UserError for a tokenizer that does not give back what was encoded in pieces."""
        ids = [number for piece in _PROBE for number in _encode(self._plain, piece)]
        if self._plain.decode(ids, skip_special_tokens=False) != "".join(_PROBE):
            raise UserError(
                "the tokenizer adds or drops spaces at the beginning of a text, so that a turn can't be encoded in pieces; use a model "
                "whose tokenizer works on bytes (Qwen, Llama 3, DeepSeek)"
            )


def template_hash(tokenizer: Any) -> str:
    """Of a tokenizer's chat template."""
    return hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()


def check_trained_template(tokenizer: Any) -> None:
    """UserError where a model that was trained here is to be used with another chat template."""
    facts = Path(str(tokenizer.name_or_path), EXPORT_FACTS)
    trained = json.loads(facts.read_text()).get("chat_template_sha256") if facts.is_file() else None
    if trained is not None and trained != template_hash(tokenizer):
        raise UserError(
            f"the model {tokenizer.name_or_path!r} was trained with another chat template than it would be used with; take "
            "engine.chat_template out, and restore the chat template in its folder"
        )


def _check_own_ids(tokenizer: Any) -> None:
    """UserError where a tokenizer gives other ids than its own tokenizer.json: transformers may choose another kind of tokenizer by the
    model's type, and spaces, say, are lost (DeepSeek's tokenizer beside a model of type llama)."""
    quietly = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors", "gated_repo")}
    file = cached_file(tokenizer.name_or_path, "tokenizer.json", local_files_only=True, **quietly) if tokenizer.name_or_path else None
    text = "".join(_PROBE)
    if file is not None and _encode(Tokenizer.from_file(file), text) != tokenizer.encode(text, add_special_tokens=False):
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} is loaded as {type(tokenizer).__name__}, whose tokens are not those of its "
            'tokenizer.json; set "tokenizer_class": "PreTrainedTokenizerFast" in its tokenizer_config.json'
        )


def _tokenizer(description: dict[str, Any], wanted: Container[str]) -> Tokenizer:
    """The tokenizer of this description in which of the added tokens only those with ``wanted`` texts are found in a text."""
    vocabulary = description["model"]["vocab"]
    added = []
    for token in description["added_tokens"]:
        if token["content"] in wanted:
            added.append(token)
        elif token["content"] not in vocabulary:  # the others' ids follow from its place
            added.append({**token, "content": f"\ue000{token['id']}\ue000"})
    without = dict.fromkeys(("post_processor", "padding", "truncation"))
    return Tokenizer.from_str(json.dumps({**description, "added_tokens": added, **without}))


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids) if text else []


def _folded(turns: Sequence[Turn], frame: _Frame) -> list[Turn]:
    """The turns that the template shows: where it has no system role, that text stands before the first user's."""
    if not frame.folds_system:
        return list(turns)
    system, first, *rest = turns
    return [Turn(role=first.role, content=f"{system.content}\n\n{first.content}"), *rest]


def _cut(content: str, message: Message) -> list[tuple[str, bool]]:
    """The pieces of a message, and whether each carries loss. ``content`` may have something before the message's own text."""
    offset = len(content) - len(message.content)
    pieces, position = [], 0
    for span in message.loss_spans:
        pieces += [(content[position : offset + span.start], False), (content[offset + span.start : offset + span.end], True)]
        position = offset + span.end
    return [*pieces, (content[position:], False)]


def _through_first(ids: Sequence[int], wanted: set[int]) -> int:
    """How many ids there are up to the first wanted one; 0 without one."""
    return next((index + 1 for index, number in enumerate(ids) if number in wanted), 0)
