"""Loss masks, token by token, with the tokenizer that ships."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from actors.engine import Turn
from actors.engine.prompt_encoder import PromptEncoder
from actors.training.tokenization import check_template, render, tokenize
from genprm.conversation import assistant_turn
from genprm.records import Message, Segment, SegmentKind, Span


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained("genprm/toy/models/base")


VERIFICATION = [
    Segment(kind=SegmentKind.CODE, text="print(7 + 5 == 13)\n"),
    Segment(kind=SegmentKind.TEXT, text="```\n"),
    Segment(kind=SegmentKind.OUTPUT, text="[Code Output]\n\n```\nFalse\n```\n"),
    Segment(kind=SegmentKind.TEXT, text="The paragraph is wrong.\n"),
]
MESSAGES = [
    Message(role="system", content="S"),
    Message(role="user", content="P\n7 + 5 = 13."),
    assistant_turn(1, [Segment(kind=SegmentKind.TEXT, text="7; 1: + 5. Operation 1: 7 + 5.")], VERIFICATION, right=False),
]


def test_the_tokens_with_loss_are_the_models_own_words(tokenizer: Any) -> None:
    tokenized = tokenize(tokenizer, MESSAGES)
    runs: list[str] = []
    previous = False
    for token, loss in zip(tokenized.ids_T, tokenized.loss_T, strict=True):
        if loss:
            text = tokenizer.decode([token])
            runs = [*runs[:-1], runs[-1] + text] if previous else [*runs, text]
        previous = loss
    assert runs == [
        "7; 1: + 5. Operation 1: 7 + 5.\n</analyze>\n",
        "print(7 + 5 == 13)\n```\n",
        "The paragraph is wrong.\n</verify>\n<output>\n**Judgement**: $\\boxed{No}$\n</output>\n<|im_end|>",
    ]


def test_the_ids_are_those_of_the_rendered_text(tokenizer: Any) -> None:
    text, mask = render(tokenizer, MESSAGES)
    assert tokenize(tokenizer, MESSAGES).ids_T == tokenizer(text, add_special_tokens=False).input_ids
    assert len(mask) == len(text)


def test_generation_sees_the_same_tokens_as_training(tokenizer: Any) -> None:
    """The prefix of an inference request is a prefix of the training tokens, at every pre-fill."""
    whole = tokenize(tokenizer, MESSAGES).ids_T
    start = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in MESSAGES[:2]], tokenize=False, add_generation_prompt=True
    )
    turn = MESSAGES[2].content
    for end in ("step by step: ", "```python\n", "[Code Output]\n\n```\nFalse\n```\n", "**Judgement**: $\\boxed"):
        prefix = turn[: turn.index(end) + len(end)]
        ids = tokenizer.encode(start + prefix, add_special_tokens=False)
        assert whole[: len(ids)] == ids, end


def test_a_template_that_changes_a_text_is_refused(tokenizer: Any) -> None:
    class Stripping:
        eos_token = "<|im_end|>"

        def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool) -> str:
            return "".join(message["content"].strip() for message in messages)

    with pytest.raises(ValueError, match="the chat template changes message 0"):
        render(Stripping(), [Message(role="assistant", content=" x ", loss_spans=(Span(start=0, end=3),))])


def test_a_template_that_adds_a_thought_to_the_last_turn_is_refused(tokenizer: Any) -> None:
    check_template(tokenizer)
    thinking = copy.deepcopy(tokenizer)
    thinking.chat_template = tokenizer.chat_template.replace(
        "{{ message['content'] }}",
        "{% if loop.last and message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}",
    )
    with pytest.raises(ValueError, match=r"chat_template\.jinja"):
        check_template(thinking)


@pytest.mark.parametrize("prefix", ["", "Step 1:", "\n\nStep 1:", "  12", "<|im_end|>\n<|im_start|>user\n1", "\u00e9\U0001f600"])
def test_a_growing_chat_is_encoded_as_its_whole_text_is(tokenizer: Any, prefix: str) -> None:
    encode = PromptEncoder(tokenizer)
    assert encode._splits
    turns = (
        Turn(role="system", content="S"),
        Turn(role="user", content="12 + 7 <|im_start|> \n"),
        Turn(role="assistant", content="19"),
        Turn(role="user", content="\n and 3?"),
    )
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + prefix
    for _ in range(2):
        assert encode(turns, prefix) == tokenizer.encode(text, add_special_tokens=False)


def test_a_tokenizer_that_joins_across_special_tokens_is_given_whole_texts() -> None:
    class Joining:
        all_special_tokens = ("|",)

        def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
            return messages[0]["content"] + "|" + messages[1]["content"]

        def encode(self, text: str, **_: Any) -> list[int]:
            return [len(text)]

    encode = PromptEncoder(Joining())
    assert not encode._splits
    assert encode((Turn(role="user", content="ab"),), "cd") == [5]
