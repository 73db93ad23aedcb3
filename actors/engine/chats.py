"""The tokenizer of an engine's chats."""

from __future__ import annotations

from typing import Any

from actors.chat_tokenizer import ChatTokenizer, check_trained_template
from actors.engine.config import ChatSettings
from actors.models import hub_name, local_model
from genprm.errors import UserError


def chat_tokenizer(tokenizer: Any, settings: ChatSettings) -> ChatTokenizer:
    """With the model's own chat template, or the one that the settings name."""
    template = settings.read_chat_template()
    if template is not None:
        tokenizer.chat_template = template
    check_trained_template(tokenizer)
    return ChatTokenizer(tokenizer, last_as_earlier=settings.last_turn == "earlier")


def load_chat_tokenizer(model: str, settings: ChatSettings) -> ChatTokenizer:
    """From a model's folder or the model hub; UserError if there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(local_model(model), revision=hub_name(model)[1])
    except (OSError, ValueError) as error:
        raise UserError(
            f"engine.tokenizer = {model!r} can't be loaded ({str(error).splitlines()[0]}); name the folder or the hub's name of the model "
            "that the endpoint serves"
        ) from error
    return chat_tokenizer(tokenizer, settings)
