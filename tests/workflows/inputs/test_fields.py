import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.inputs.fields import integer_of, label_text, list_of, message_text, number_text, path_parts, text_of, value_at


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("answer", "1"),
        ("reward_model.ground_truth", "2"),
        ("prompt[0].content", "P"),
        ("prompt[-1].content", "Q"),
        ("extra.info", "flat"),
        ("text.inner[1]", 5),
        ("nested[0][1]", "b"),
        ("absent.inner", None),
        ("prompt[7].content", None),
        ("answer.inner", None),
        ("prompt.content", None),
    ],
)
def test_values_by_path(path: str, value: Any) -> None:
    row = {
        "answer": "1",
        "reward_model": {"ground_truth": "2"},
        "prompt": [{"content": "P"}, {"content": "Q"}],
        "extra.info": "flat",
        "text": '{"inner": [4, 5]}',
        "nested": [["a", "b"]],
    }
    assert value_at(row, path) == value


@pytest.mark.parametrize("path", ["", "a..b", "a[", "a[x]", ".a", "a.", "a]"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="is no name or path of a field"):
        path_parts(path)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.00001, "0.00001"), (1e16, "10000000000000000"), (27.0, "27"), (-0.5, "-0.5"), (0.1, "0.1"), (-0.0, "0"),
        (10**24, "1" + "0" * 24),
        (2.5e-7, "0.00000025"), (Decimal("3.140"), "3.14"), (100.0, "100"), (0.0, "0"),
    ],
)  # fmt: skip
def test_numbers_are_written_out(number: Any, text: str) -> None:
    assert number_text(number) == text
    assert text_of(number, "answer") == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no answer"), (math.nan, "no answer"), (-math.inf, "no answer"), (Decimal("NaN"), "no answer"), (True, "answer is not text"),
        ({}, "answer is not text"), (b"x", "answer is not text"), (" \n", "empty answer"), ("x" * 100_001, "answer too long"),
        ("\ud800", "answer is not valid Unicode"), (Decimal("1e-9999"), "answer is a number too long to be written out"),
    ],
)  # fmt: skip
def test_what_is_no_text(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        text_of(value, "answer")


def test_a_chats_text_is_its_last_message_of_the_role() -> None:
    chat = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}]},
    ]
    assert message_text(chat, "prompt") == "second"
    assert message_text(chat, "prompt", "assistant") == "A"
    assert message_text([{"from": "human", "value": "H"}, {"from": "gpt", "value": "G"}], "prompt") == "H"
    assert message_text('[{"role": "user", "content": "cell"}]', "prompt") == "cell"
    assert message_text("[{curly}]", "prompt") == "[{curly}]"
    for bad in ([], ["P"], [{"role": "user"}], [{"role": "system", "content": "S"}], [{"role": "user", "content": None}]):
        with pytest.raises(ValueError, match="prompt"):
            message_text(bad, "prompt")


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1.0 ", "+1", Decimal(1)])
def test_whole_numbers_are_integers_however_they_are_written(value: Any) -> None:
    assert integer_of(value, "label") == 1


@pytest.mark.parametrize("value", [True, False, 1.5, "one", "", None, math.nan, math.inf, [1], "1e3", "９" * 400, Decimal("NaN")])
def test_what_is_no_integer(value: Any) -> None:
    with pytest.raises(ValueError, match="label is not an integer"):
        integer_of(value, "label")


def test_lists_also_as_json_text() -> None:
    assert list_of('["a", 1]', "steps") == ["a", 1]
    for bad in ("a", {"a": 1}, 1, None, "[" * 100_000):
        with pytest.raises(ValueError, match="steps is not a list"):
            list_of(bad, "steps")
    with pytest.raises(ValueError, match="steps too long"):
        list_of([1] * 10_001, "steps")


def test_ids_and_levels_are_short_texts() -> None:
    assert [label_text(value, "level") for value in ("Level 5", 5, 5.0, " ", True, None, math.nan, ["a"], "\ud800")] == [
        "Level 5", "5", "5", None, None, None, None, None, "?",
    ]  # fmt: skip


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_written_out_numbers_are_the_numbers(number: float) -> None:
    text = number_text(number)
    assert "e" not in text
    assert float(text) == number
