"""The trainer on a real DeepSpeed, alone in its group, on the base model that ships."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from actors.chat_tokenizer import TokenizedConversation
from actors.engine.chats import chat_tokenizer
from actors.engine.config import ChatSettings
from actors.training.config import TrainConfig
from actors.training.trainer import IGNORED, Trainer, batch_indices, unusable
from genprm.records import Conversation, Message, Span

CONFIG = TrainConfig(
    base_model="genprm/toy/models/base", num_workers=1, num_gpus=0, zero_stage=2, precision="float32", epochs=2, batch_size=4,
    micro_batch_size=2, learning_rate=1e-3, max_length=256,
)  # fmt: skip


def conversation(index: int) -> Conversation:
    answer = f"{index} is [Code Output] right"
    return Conversation(
        id=f"c{index}",
        problem_id=f"p{index}",
        first_error=-1,
        messages=(
            Message(role="user", content=f"{index} plus 1"),
            Message(role="assistant", content=answer, loss_spans=(Span(start=0, end=5), Span(start=18, end=len(answer)))),
        ),
    )


def trainer(config: TrainConfig = CONFIG) -> Trainer:
    return Trainer(config, [conversation(index) for index in range(10)], device=torch.device("cpu"))


def test_each_epoch_is_a_permutation_cut_into_batches() -> None:
    batches = batch_indices(num_rows=10, batch_size=4, epochs=2, seed=1)
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    for epoch in (batches[:3], batches[3:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(10))
    assert batches[:3] != batches[3:]
    assert batches == batch_indices(num_rows=10, batch_size=4, epochs=2, seed=1)
    assert batches != batch_indices(num_rows=10, batch_size=4, epochs=2, seed=2)


def test_only_the_spans_that_carry_loss_are_targets(process_group: None) -> None:
    one = trainer()
    _, targets = next(iter(one._micro_batches([0, 1])))
    wanted = [one.tokenizer.decode([token for token in row.tolist() if token != IGNORED]) for row in targets]
    assert [text.replace("<|im_end|>", "") for text in wanted] == ["0 is  right", "1 is  right"]


def test_training_resumed_from_a_checkpoint_takes_the_same_steps(process_group: None, tmp_path: Path) -> None:
    whole = list(trainer().train())
    assert [step["step"] for step in whole] == [1, 2, 3, 4, 5, 6]
    assert whole[-1]["loss"] < whole[0]["loss"] / 2

    broken = trainer()
    steps = broken.train()
    begun = [next(steps) for _ in range(3)]
    broken.save_checkpoint(tmp_path / "checkpoints")
    resumed = trainer()
    assert resumed.load_checkpoint(tmp_path / "checkpoints")
    rest = list(resumed.train())
    assert [step["step"] for step in rest] == [4, 5, 6]
    assert [step["loss"] for step in begun + rest] == pytest.approx([step["loss"] for step in whole], rel=1e-4)
    assert not trainer().load_checkpoint(tmp_path / "nowhere")


def test_the_export_is_the_trained_model_in_hugging_face_format(process_group: None, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    one = trainer(CONFIG.model_copy(update={"zero_stage": 3, "epochs": 1}))
    list(one.train())
    one.export(tmp_path / "export")
    one.export(tmp_path / "export")  # a run that was killed after its export does it again
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export", dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(CONFIG.base_model, dtype=torch.float32)
    moved = [float((new - old).abs().max()) for new, old in zip(exported.state_dict().values(), base.state_dict().values(), strict=True)]
    assert all(0 < change < 0.05 for change in moved)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert tokenizer.chat_template == one.tokenizer.chat_template
    chat_tokenizer(tokenizer, ChatSettings())
    (tmp_path / "other.jinja").write_text(tokenizer.chat_template + " ")
    with pytest.raises(ValueError, match=r"was trained with another chat template .* take engine\.chat_template out"):
        chat_tokenizer(tokenizer, ChatSettings(chat_template=str(tmp_path / "other.jinja")))


def test_conversations_that_are_all_too_long_are_the_users_to_fix(process_group: None) -> None:
    with pytest.raises(ValueError, match=r"train\.max_length = 16: none of the 10 conversations"):
        trainer(CONFIG.model_copy(update={"max_length": 16}))


def test_a_conversation_that_would_teach_nothing_is_left_out() -> None:
    def row(num_tokens: int, *carry: int) -> TokenizedConversation:
        return TokenizedConversation(ids_T=[1] * num_tokens, loss_T=[index in carry for index in range(num_tokens)])

    assert unusable(row(4, 2), 4) is None
    assert unusable(row(5, 2), 4) == "too long"
    assert unusable(row(4), 4) == unusable(row(4, 0), 4) == "no token with loss"  # the first token is no target
