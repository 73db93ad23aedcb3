"""The exact bytes of prompts and turns, and the loss token by token, in three chat templates."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from actors.chat_tokenizer import ChatTokenizer
from actors.engine import Piece, Turn
from genprm import rationale
from genprm.conversation import build_conversation
from genprm.records import Critique, CritiqueOutcome, Message, Segment, SegmentKind

QWEN = (
    "{%- if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n{% endif %}"
    "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% else %}{{ '<｜Assistant｜>' + message['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)


class Chat(NamedTuple):
    """A tokenizer with a template, and what it puts around turns."""

    tokenizer: Any
    system: tuple[str, str]
    default_system: str
    user: tuple[str, str]
    assistant: str
    end: str
    after_end: str


def chat(name: str) -> Chat:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("genprm/toy/models/base")
    if name != "r1":
        im_end, default = "<|im_end|>\n", ""
        if name == "qwen":
            tokenizer.chat_template = QWEN
            default = f"<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.{im_end}"
        system, user = ("<|im_start|>system\n", im_end), ("<|im_start|>user\n", im_end)
        return Chat(tokenizer, system, default, user, "<|im_start|>assistant\n", "<|im_end|>", "\n")
    tokenizer.add_special_tokens(
        {
            "bos_token": "<｜begin▁of▁sentence｜>",
            "eos_token": "<｜end▁of▁sentence｜>",
            "additional_special_tokens": ["<｜User｜>", "<｜Assistant｜>"],
        }
    )
    tokenizer.chat_template = R1
    bos = "<｜begin▁of▁sentence｜>"
    return Chat(tokenizer, (bos, ""), bos, ("<｜User｜>", ""), "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "")


@pytest.fixture(scope="module", params=["toy", "qwen", "r1"])
def rendered(request: pytest.FixtureRequest) -> Chat:
    return chat(request.param)


def decoded(chat: Chat, turns: tuple[Turn, ...], prefix: str) -> str:
    text: str = chat.tokenizer.decode(ChatTokenizer(chat.tokenizer).prompt(turns, [Piece(text=prefix)]))
    return text


STEPS = ("7 + 5 = 12.", "12 - 2 = 11.")


def test_what_the_rationale_model_is_asked(rendered: Chat) -> None:
    turns = (Turn(role="user", content=rationale.rationale_prompt("Tom has 7.", STEPS, "Judge.")),)
    assert decoded(rendered, turns, rationale.RATIONALE_PREFILL) == (
        f"{rendered.default_system}{rendered.user[0]}"
        "Judge.\n\n[Problem]\nTom has 7.\n\n[Solution]\n"
        "<paragraph_1>\n7 + 5 = 12.\n</paragraph_1>\n<paragraph_2>\n12 - 2 = 11.\n</paragraph_2>"
        f"{rendered.user[1]}{rendered.assistant}<think>\n### Paragraph 1\n<analyze>\n"
    )


FIRST = (
    "<analyze>\nLet's analyze the Paragraph 1 step by step: It adds.\n</analyze>\n<verify>\nLet's use python code to find any potential "
    "error:\n```python\nprint(7 + 5)\n```\n[Code Output]\n\n```\n12\n```\nRight.\n</verify>\n"
    "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
)


def test_what_the_verifier_is_asked_at_its_second_step(rendered: Chat) -> None:
    turns = (
        Turn(role="system", content=rationale.SYSTEM),
        Turn(role="user", content="Tom has 7.\n7 + 5 = 12."),
        Turn(role="assistant", content=FIRST),
        Turn(role="user", content="12 - 2 = 11."),
    )
    prefix = f"{rationale.analyze_prefill(2)}It takes away.\n</analyze>\n{rationale.VERIFY_PREFILL}"
    assert decoded(rendered, turns, prefix) == (
        f"{rendered.system[0]}You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."
        f"{rendered.system[1]}"
        f"{rendered.user[0]}Tom has 7.\n7 + 5 = 12.{rendered.user[1]}"
        f"{rendered.assistant}{FIRST}{rendered.end}{rendered.after_end}"
        f"{rendered.user[0]}12 - 2 = 11.{rendered.user[1]}"
        f"{rendered.assistant}<analyze>\nLet's analyze the Paragraph 2 step by step: It takes away.\n</analyze>\n<verify>\n"
        "Let's use python code to find any potential error:\n```python\n"
    )


def critique() -> Critique:
    def paragraph(number: int, words: str, code: str, output: str, end: str) -> list[Segment]:
        return [
            Segment(kind=SegmentKind.TEXT, text=f"### Paragraph {number}\n<analyze>\n{words}\n</analyze>\n<verify>\n```python\n"),
            Segment(kind=SegmentKind.CODE, text=code),
            Segment(kind=SegmentKind.TEXT, text="```\n"),
            Segment(kind=SegmentKind.OUTPUT, text=f"[Code Output]\n\n```\n{output}\n```\n"),
            Segment(kind=SegmentKind.TEXT, text=f"{end}\n</verify>\n"),
        ]

    return Critique(
        id="p/s0", problem_id="p", problem="Tom has 7.", level=None, steps=STEPS,
        segments=(
            *paragraph(1, "It adds.", "print(7 + 5)\n", "12", "Right."),
            *paragraph(2, "It takes away.", "print(12 - 2)\n", "10", "Wrong."),
        ),
        outcome=CritiqueOutcome.READ, index_votes_V=(1,), judged_first_error=1, num_code_blocks=2, num_tokens=9,
    )  # fmt: skip


def test_which_tokens_carry_loss(rendered: Chat) -> None:
    """The conversation as runs of tokens, (text, carries loss), joined where loss does not change."""
    messages: tuple[Message, ...] = build_conversation(critique(), 1).messages
    tokenized = ChatTokenizer(rendered.tokenizer).conversation(messages)
    runs: list[tuple[list[int], bool]] = []
    for token, loss in zip(tokenized.ids_T, tokenized.loss_T, strict=True):
        if runs and runs[-1][1] == loss:
            runs[-1][0].append(token)
        else:
            runs.append(([token], loss))
    lead = "\n<verify>\nLet's use python code to find any potential error:\n```python\n"
    assert [(rendered.tokenizer.decode(ids), loss) for ids, loss in runs] == [
        (
            f"{rendered.system[0]}{rationale.SYSTEM}{rendered.system[1]}{rendered.user[0]}Tom has 7.\n7 + 5 = 12.{rendered.user[1]}"
            f"{rendered.assistant}<analyze>\nLet's analyze the Paragraph 1 step by step: ",
            False,
        ),
        ("It adds.\n</analyze>", True),
        (lead, False),
        ("print(7 + 5)\n```\n", True),
        ("[Code Output]\n\n```\n12\n```\n", False),
        (f"Right.\n</verify>\n<output>\n**Judgement**: $\\boxed{{Yes}}$\n</output>\n{rendered.end}", True),
        (
            f"{rendered.after_end}{rendered.user[0]}12 - 2 = 11.{rendered.user[1]}{rendered.assistant}"
            "<analyze>\nLet's analyze the Paragraph 2 step by step: ",
            False,
        ),
        ("It takes away.\n</analyze>", True),
        (lead, False),
        ("print(12 - 2)\n```\n", True),
        ("[Code Output]\n\n```\n10\n```\n", False),
        (f"Wrong.\n</verify>\n<output>\n**Judgement**: $\\boxed{{No}}$\n</output>\n{rendered.end}", True),
    ]
