"""Conversations to token ids and loss masks, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genprm.conversation import assistant_turn
from genprm.errors import UserError
from genprm.records import Message


@dataclass(frozen=True, kw_only=True)
class TokenizedConversation:
    """``ids_T`` of the whole rendered conversation; ``loss_T[i]`` says whether token i carries loss (as a target)."""

    ids_T: list[int]
    loss_T: list[bool]


def render(tokenizer: Any, messages: Sequence[Message]) -> tuple[str, list[bool]]:
    """The chat template's text and, for every character of it, whether it carries loss.

    Besides the messages' loss spans, the end-of-turn token right after a message that carries loss does too. ValueError if
    the template changes a message's text, since its spans would then point elsewhere.
    """
    text: str = tokenizer.apply_chat_template([{"role": message.role, "content": message.content} for message in messages], tokenize=False)
    mask = [False] * len(text)
    position = 0
    for index, message in enumerate(messages):
        start = text.find(message.content, position)
        if start < 0:
            raise UserError(
                f"the chat template changes message {index} ({message.role}): {message.content[:60]!r} is not in its output as it "
                "stands; use a tokenizer whose template keeps texts whole"
            )
        for span in message.loss_spans:
            mask[start + span.start : start + span.end] = [True] * (span.end - span.start)
        position = start + len(message.content)
        end = tokenizer.eos_token
        if message.loss_spans and end and text.startswith(end, position):
            mask[position : position + len(end)] = [True] * len(end)
    return text, mask


def check_template(tokenizer: Any) -> None:
    """ValueError if the chat template shows an earlier assistant turn otherwise than the last one.

    The model judges a paragraph as the last turn of a chat and finds it as an earlier turn later: training shows each once,
    as an earlier turn, so a template that adds to the last one (an empty thought, say) would train another model than runs.
    """
    judgement = assistant_turn(1, [], [], right=True).content
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "p"},
        {"role": "assistant", "content": judgement},
    ]
    as_last: str = tokenizer.apply_chat_template(chat, tokenize=False)
    as_earlier: str = tokenizer.apply_chat_template([*chat, *chat[1:]], tokenize=False)
    if not as_earlier.startswith(as_last.partition(judgement)[0] + judgement):
        raise UserError(
            "the chat template shows the last assistant turn otherwise than earlier ones (a thought added or taken away), so that "
            "training would not see what inference does; put a chat_template.jinja that shows all turns alike into the model's folder"
        )


def tokenize(tokenizer: Any, messages: Sequence[Message]) -> TokenizedConversation:
    """Tokens of a conversation; a token carries loss only if every one of its characters does."""
    text, mask = render(tokenizer, messages)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    loss = [end > start and all(mask[start:end]) for start, end in encoding["offset_mapping"]]
    return TokenizedConversation(ids_T=list(encoding["input_ids"]), loss_T=loss)
