"""Training and inference see the same tokens, with the tokenizer that ships and with real ones; data can't write special tokens."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.chat_tokenizer import ChatTokenizer
from actors.code_executor import CodeResult, CodeStatus
from actors.engine import Completion, Finish, Piece, Request, Turn
from actors.engine.scripted_engine import ScriptedEngine
from actors.verifier import Verifier, VerifierConfig
from genprm import rationale
from genprm.conversation import assistant_turn
from genprm.errors import UserError
from genprm.records import BenchmarkSolution, Message, Segment, SegmentKind, Span
from genprm.reward import verdict_word
from tests.shared_data import shared

TOY = "genprm/toy/models/base"
NAMES = ["toy", "qwen3", "deepseek_v3"]


@cache
def tokenizer_of(name: str) -> Any:
    from transformers import AutoTokenizer

    folder = TOY if name == "toy" else str(shared(f"tokenizers/{name}/tokenizer.json").parent)
    return AutoTokenizer.from_pretrained(folder)


@cache
def chats_of(name: str) -> ChatTokenizer:
    return ChatTokenizer(tokenizer_of(name))


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizer(name: str) -> Any:
    return tokenizer_of(name)


@pytest.fixture
def chats(name: str) -> ChatTokenizer:
    return chats_of(name)


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


def test_the_tokens_with_loss_are_the_models_own_words(tokenizer: Any, chats: ChatTokenizer) -> None:
    tokenized = chats.conversation(MESSAGES)
    runs: list[list[int]] = []
    previous = False
    for token, loss in zip(tokenized.ids_T, tokenized.loss_T, strict=True):
        if loss:
            runs = [*runs[:-1], [*runs[-1], token]] if previous else [*runs, [token]]
        previous = loss
    assert [tokenizer.decode(run) for run in runs] == [
        "7; 1: + 5. Operation 1: 7 + 5.\n</analyze>",
        "print(7 + 5 == 13)\n```\n",
        f"The paragraph is wrong.\n</verify>\n<output>\n**Judgement**: $\\boxed{{No}}$\n</output>\n{tokenizer.eos_token}",
    ]


TEXT = st.text(alphabet="aZ 0\n\t.:;(){}$\\é二\u0301\U0001f600<|>im_endthk/", max_size=30)
WORDS = TEXT.filter(lambda text: "```" not in text and "</" not in text)


class Answers:
    """A verifier's model, whose tokens are those of its texts; keeps what it was asked."""

    def __init__(self, chats: ChatTokenizer, analysis: str, code: str, words: str) -> None:
        self._chats, self._analysis, self._code, self._words = chats, analysis, code, words
        self.asked: list[tuple[list[int], tuple[int, ...]]] = []

    def __call__(self, request: Request) -> list[Completion]:
        last = request.prefix_pieces[-1]
        if request.num_logprobs:
            text = "{Yes}$\n</output>"
        elif last.text.endswith("step by step: "):
            text = f"{self._analysis}\n</analyze>"
        elif last.text.endswith("```python\n"):
            text = f"{self._code}```\n"
        else:
            text = f"{self._words}</verify>"
        piece = self._chats.ids(Piece(text=text))
        self.asked.append((self._chats.prompt(request.turns, request.prefix_pieces), piece))
        logprobs: tuple[dict[str, float], ...] = ({"{": 0.0}, {"Yes": 0.0, "No": math.log(1e-9)}) if request.num_logprobs else ()
        return [Completion(text=text, finish=Finish.STOP, num_tokens=len(piece), logprobs_T=logprobs, ids=piece)]


class Printing:
    """An executor that prints the same for every block."""

    def __init__(self, output: str) -> None:
        self._output = output

    async def open(self) -> str:
        return "session"

    async def run(self, session: str, code: str) -> CodeResult:
        return CodeResult(status=CodeStatus.OK, text=self._output)

    async def close(self, session: str) -> None:
        pass


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=TEXT, analysis=WORDS.map(str.strip).filter(bool), code=WORDS, output=TEXT, words=WORDS)
def test_inference_asks_with_the_tokens_of_training(
    chats: ChatTokenizer, problem: str, analysis: str, code: str, output: str, words: str
) -> None:
    """Every request of a verifier, and what the model then writes, is a beginning of the training conversation, to the token."""
    code = f"{code}\n"
    steps = ("7 + 5 = 12.", "So 12.")
    answers = Answers(chats, analysis, code, words)
    verifier = Verifier(engine=ScriptedEngine(answers), runner=Printing(output), config=VerifierConfig(), run_seed=0)
    solution = BenchmarkSolution(id="x", problem=problem, steps=steps, label=-1)
    asyncio.run(verifier.judge(solution, stop_at_first_error=False))
    verification = [
        Segment(kind=SegmentKind.CODE, text=code),
        Segment(kind=SegmentKind.TEXT, text="```\n"),
        Segment(kind=SegmentKind.OUTPUT, text=rationale.code_output_block(output)),
        Segment(kind=SegmentKind.TEXT, text=words),
    ]
    users = rationale.user_turns(problem, steps)
    turns = [assistant_turn(index + 1, [Segment(kind=SegmentKind.TEXT, text=analysis)], verification, right=True) for index in (0, 1)]
    messages = [Message(role="system", content=rationale.SYSTEM)]
    for user, turn in zip(users, turns, strict=True):
        messages += [Message(role="user", content=user), turn]
    tokenized = chats.conversation(messages)
    assert len(answers.asked) == 8
    for prompt, written in answers.asked:
        assert tokenized.ids_T[: len(prompt) + len(written)] == [*prompt, *written]
        assert all(tokenized.loss_T[len(prompt) : len(prompt) + len(written)])
    num_written = sum(len(piece) for _, piece in answers.asked)
    num_judgement = sum(len(chats.ids(Piece(text=text))) for text in ("\n<output>\n**Judgement**: $\\boxed", "\n"))
    assert sum(tokenized.loss_T) == num_written + 2 * (num_judgement + 1)  # each turn's end is a token, too


@pytest.mark.parametrize("place", ["user", "system", "output"])
def test_a_special_token_in_data_is_text(tokenizer: Any, chats: ChatTokenizer, place: str) -> None:
    added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items()}
    assert len(added) >= 13

    def prompt(text: str) -> list[int]:
        system, user = text if place == "system" else "S", text if place == "user" else "U"
        turns = (Turn(role="system", content=system), Turn(role="user", content=user))
        return chats.prompt(turns, [Piece(text="x"), Piece(text=text if place == "output" else "O", is_data=True)])

    plain = [number for number in prompt("-") if number in added]
    for token in added.values():
        assert [number for number in prompt(f"1 {token} 2") if number in added] == plain
        assert f"1 {token} 2" in tokenizer.decode(prompt(f"1 {token} 2"))
        loss = Message(role="assistant", content=token, loss_spans=(Span(start=0, end=len(token)),))
        tokenized = chats.conversation([Message(role="user", content=token), loss])
        carry = [number for number, carries in zip(tokenized.ids_T, tokenized.loss_T, strict=True) if carries]
        assert [number in added for number in carry] == [token in rationale.TAGS] * (len(carry) - 1) + [True]


def test_our_own_pre_fill_may_open_a_thought() -> None:
    tokenizer = tokenizer_of("qwen3")
    prompt = chats_of("qwen3").prompt((Turn(role="user", content="<think>"),), [Piece(text="<think>\n")])
    assert prompt.count(tokenizer.convert_tokens_to_ids("<think>")) == 1


def test_what_was_written_keeps_its_ids_up_to_where_it_was_cut(tokenizer: Any, chats: ChatTokenizer) -> None:
    def ids(text: str) -> list[int]:
        return list(chats.ids(Piece(text=text, is_data=True)))

    code = "x = 1\nprint(x)\n```\n"
    end = [tokenizer.eos_token_id]
    assert chats.kept_ids(ids(code), code) == tuple(ids(code))
    assert chats.kept_ids([*ids("Right. 二"), *end], "Right. 二") == tuple(ids("Right. 二"))
    apart = [number for character in "print" for number in ids(character)]  # not as the text alone would be encoded
    assert chats.kept_ids([*apart, *ids("(1)")], "print(1)") == (*apart, *ids("(1)"))
    kept = chats.kept_ids([*apart, *ids("(1)\n```\n\n\n")], "print(1)\n```\n")
    assert kept[: len(apart)] == tuple(apart)
    assert tokenizer.decode(kept) == "print(1)\n```\n"
    assert chats.kept_ids(ids("other"), "text") == tuple(ids("text"))


def with_template(template: str, eos_token: str | None = None) -> ChatTokenizer:
    made = copy.deepcopy(tokenizer_of("toy"))
    made.chat_template = template
    if eos_token is not None:
        made.eos_token = eos_token
    return ChatTokenizer(made)


PLAIN = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
DROPPED_SYSTEM = PLAIN.replace("in messages", "in messages if m['role'] != 'system'")
NO_LAST_ASSISTANT = "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('must end with a user') }}{% endif %}" + PLAIN
THOUGHT = "+ ('<think>\n\n</think>\n\n' if loop.last and m['role'] == 'assistant' else '')"
THOUGHT_AT_THE_END = PLAIN.replace("+ m['content']", f"{THOUGHT} + m['content']")
THOUGHTS_CUT = PLAIN.replace("m['content']", "m['content'].split('</think>')[-1]")
TRIMMED = PLAIN.replace("m['content']", "(m['content'] | trim)")
CHAT = (
    Turn(role="system", content="S"),
    Turn(role="user", content=" 1?"),
    Turn(role="assistant", content="<think>a</think>2"),
    Turn(role="user", content="3?\n"),
)
SHOWN = (
    "<|im_start|>user\n 1?<|im_end|>\n<|im_start|>assistant\n<think>a</think>2<|im_end|>\n<|im_start|>user\n3?\n<|im_end|>\n"
    "<|im_start|>assistant\nso"
)


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (PLAIN, f"<|im_start|>system\nS<|im_end|>\n{SHOWN}"),
        (NO_SYSTEM, SHOWN.replace(" 1?", "S\n\n 1?")),
        (DROPPED_SYSTEM, SHOWN.replace(" 1?", "S\n\n 1?")),
        (NO_LAST_ASSISTANT, f"<|im_start|>system\nS<|im_end|>\n{SHOWN}"),
        (THOUGHT_AT_THE_END, f"<|im_start|>system\nS<|im_end|>\n{SHOWN}"),
        (THOUGHTS_CUT, f"<|im_start|>system\nS<|im_end|>\n{SHOWN}"),
        (TRIMMED, f"<|im_start|>system\nS<|im_end|>\n{SHOWN}"),
    ],
    ids=["plain", "no system", "system dropped", "no assistant at the end", "thought at the end", "thoughts cut", "trimmed"],
)
def test_whatever_a_template_does_turns_have_one_form_and_texts_stay_whole(template: str, shown: str) -> None:
    chats = with_template(template)
    assert chats.prompt_text(CHAT, [Piece(text="so")]) == shown
    messages = [Message(role=turn.role, content=turn.content) for turn in CHAT]
    answer = Message(role="assistant", content="so", loss_spans=(Span(start=0, end=2),))
    tokenized = chats.conversation([*messages, answer])
    prompt = chats.prompt(CHAT, [Piece(text="so")])
    assert tokenized.ids_T[: len(prompt)] == prompt
    assert len(tokenized.ids_T) == len(prompt) + 1
    assert sum(tokenized.loss_T) == len(chats.ids(Piece(text="so"))) + 1


def test_the_end_of_a_turn_carries_loss_whatever_ends_a_sequence() -> None:
    chats = with_template(PLAIN, eos_token="<|endoftext|>")
    end = tokenizer_of("toy").convert_tokens_to_ids("<|im_end|>")
    tokenized = chats.conversation(MESSAGES)
    assert chats.end_of_turn == end
    assert (tokenized.ids_T[-1], tokenized.loss_T[-1]) == (end, True)


def test_a_template_that_leaves_a_text_out_is_refused() -> None:
    with pytest.raises(UserError, match=r"does not show the texts of a chat of .*user.* in their order; put a chat_template\.jinja"):
        with_template("{% for m in messages if m['role'] != 'user' %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(UserError, match="no chat template"):
        with_template("")


def test_a_tokenizer_that_adds_spaces_is_refused() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: index for index, letter in enumerate(sorted({*"Let's: The1+\n=2?É so二\U0001f600\t▁"}))}
    made = Tokenizer(models.BPE(vocab=letters, merges=[]))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    with pytest.raises(UserError, match="adds or drops spaces"):
        ChatTokenizer(PreTrainedTokenizerFast(tokenizer_object=made, chat_template=PLAIN))


def test_a_tokenizer_whose_ids_are_not_those_of_its_file_is_refused(tmp_path: Path) -> None:
    """transformers 5 takes another kind of tokenizer for DeepSeek's file beside a model of type llama, and all spaces are lost."""
    from transformers import AutoTokenizer

    for file in shared("tokenizers/deepseek_v3/tokenizer.json").parent.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r'"tokenizer_class": "PreTrainedTokenizerFast" in its tokenizer_config\.json'):
        ChatTokenizer(AutoTokenizer.from_pretrained(str(tmp_path)))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
    ChatTokenizer(AutoTokenizer.from_pretrained(str(tmp_path)))  # the remedy


SUMMED = {
    "toy": ({"Y", "y", "Yes"}, {"N", "n", " n", "No"}),
    "qwen3": (
        {"Y", "y", " y", " Y", "\ty", "\tY", "ye", " ye", " Ye", "YE", " YE", "Ye", " Yes", "Yes", "yes", " yes", "YES", " YES"},
        {"N", "n", " n", " N", "\tn", "\tN", "{n", " no", "no", " No", "No", " NO", "NO", "\tno"},
    ),
    "deepseek_v3": (
        {"Y", "y", " y", " Y", "\ty", "{y", "{Y", "ye", " ye", " Ye", "YE", " YE", "Ye", " Yes", "Yes", "yes", " yes", "YES", " YES"},
        {"N", "n", " n", " N", "\tn", "\tN", "{N", "{n", " no", "no", " No", "No", " NO", "NO"},
    ),
}


def test_which_tokens_are_summed_as_yes_and_no(name: str, tokenizer: Any, chats: ChatTokenizer) -> None:
    texts = {number: tokenizer.decode([number]) for number in range(len(tokenizer))}
    words = {number: verdict_word(text) for number, text in texts.items()}
    assert tuple({texts[number] for number, word in words.items() if word == wanted} for wanted in ("yes", "no")) == SUMMED[name]
    for verdict in ("{Yes}$", "{ Yes }", "{yes}", "{YES}", "{\\text{Yes}}", "{No}", "{ no}", "{NO}$"):
        found = [words[number] for number in chats.ids(Piece(text=verdict)) if words[number] is not None]
        assert found[0] == ("yes" if "y" in verdict.lower() else "no")
