"""The layouts of public data sets with labelled solutions: mostly a table of names, ``LAYOUTS``, with how each is recognised by its names.

To add one: an entry in ``LAYOUTS``, with a function ``read`` where steps and labels stand in each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from genprm.steps import StepSplit, marker, read_steps, split_paragraphs
from workflows.inputs import labels
from workflows.inputs.answers import answer_of
from workflows.inputs.fields import (
    FieldError,
    found,
    is_blank,
    is_missing,
    json_in,
    list_of,
    message_text,
    optional,
    read,
    text_of,
    value_at,
)

Row = Mapping[str, Any]


class Wanted(Protocol):
    """What a layout is read with: the names to look for, and the settings that say what labels and texts mean."""

    def names(self, setting: str) -> str | tuple[str, ...]: ...
    @property
    def label_base(self) -> int: ...
    @property
    def label_values(self) -> str: ...
    @property
    def neutral(self) -> str: ...
    @property
    def unmarked(self) -> str: ...
    @property
    def step_tag(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What of a row belongs to its layout; ``labels`` are None where it has none.

    ``num_empty`` steps were left out because they had no text, ``num_merged`` belong to the one before for their form.
    """

    problem: str
    steps: list[str]
    labels: labels.Labels | None
    answer: str | None
    num_empty: int = 0
    num_merged: int = 0


def read_fields(row: Row, wanted: Wanted, *, join: bool = False) -> Parts:
    """A row with a field each for problem, steps (or the solution's text), labels and answer.

    With ``join`` an item of the steps that does not begin with the next ``Step k:`` belongs to the one before, if any has one.
    """
    problem = read(row, wanted.names("problem_field"), "problem_field", message_text)
    split = _steps_of(row, wanted)
    steps = joined(split.steps) if join else list(split.steps)
    found_labels = _labels_of(row, wanted, len(steps))
    if found_labels is not None and split.num_empty:
        raise ValueError("empty step")
    return Parts(
        problem=problem,
        steps=steps,
        labels=found_labels,
        answer=_answer(row, wanted),
        num_empty=split.num_empty,
        num_merged=split.num_repeated + split.num_unordered + len(split.steps) - len(steps),
    )


def _steps_of(row: Row, wanted: Wanted) -> StepSplit:
    """The steps of a row, given or split from its solution's text."""
    name, value = found(row, wanted.names("steps_field"))
    if isinstance(value, str):
        value = None if is_blank(value) else json_in(value)
    if value is not None and not isinstance(value, str):
        return StepSplit(steps=tuple(_step_text(step) for step in list_of(value, name)), num_markers=0)
    if value is not None:
        text = text_of(value, name)
    else:
        by_assistant = partial(message_text, role="assistant")
        solution = optional(row, wanted.names("solution_field"), "solution_field", by_assistant)
        if solution is None:
            raise FieldError("no steps", "steps_field")
        text = solution
    split = read_steps(text)
    if not split.num_markers and wanted.unmarked == "paragraphs":
        return replace(split, steps=tuple(split_paragraphs(text)))
    return split


def joined(items: Sequence[str]) -> list[str]:
    """The items with those that begin with no ``Step k:`` of their turn put to the one before; as they are where none begins so."""
    steps: list[str] = []
    num_markers = 0
    for item in items:
        head = marker(item.partition("\n")[0])
        is_next = head is not None and head.number == len(steps) + 1
        num_markers += is_next
        if is_next or not steps:
            steps.append(item)
        else:
            steps[-1] += f"\n{item}"
    return steps if num_markers else list(items)


def _step_text(step: Any) -> str:
    """The text of a step, which may stand in an object; empty where it is blank."""
    if not isinstance(step, str) and isinstance(step, Mapping):
        step = next((step[name] for name in ("text", "step", "content") if name in step), None)
    return "" if is_blank(step) else text_of(step, "step")


def _labels_of(row: Row, wanted: Wanted, num_steps: int) -> labels.Labels | None:
    name, index = found(row, wanted.names("label_field"))
    values = optional(row, wanted.names("labels_field"), "labels_field", list_of)
    try:
        from_index = None if index is None or is_blank(index) else labels.of_index(index, name, num_steps, wanted.label_base)
    except ValueError as error:
        raise FieldError(str(error), "label_field") from error
    if values is None:
        return from_index
    try:
        ratings = wanted.label_values == "ratings"
        from_values = labels.of_ratings(values, "labels", wanted.neutral) if ratings else labels.of_values(values, "labels")
    except ValueError as error:
        raise FieldError(str(error), "labels_field") from error
    if from_index is not None and _first_bad(from_index) != _first_bad(from_values):
        raise ValueError("label and labels differ")
    return from_values


def _first_bad(found_labels: labels.Labels) -> int:
    return found_labels.index(0) if 0 in found_labels else -1


def _answer(row: Row, wanted: Wanted) -> str | None:
    return optional(row, wanted.names("answer_field"), "answer_field", answer_of)


def _read_mr_ben(row: Row, wanted: Wanted) -> Parts:
    """The first error is the number of a ``Step k:``, of which some solutions have several list items: these are one step."""
    parts = read_fields(row, wanted, join=True)
    _, correctness = found(row, ("Model_Solution_Correctness", "model_output_solution_correctness"))
    wrong = correctness is False or (isinstance(correctness, str) and correctness.strip().lower() in ("incorrect", "wrong", "false"))
    if wrong and parts.labels is not None and 0 not in parts.labels:
        raise ValueError("incorrect without a first error")
    options = value_at(row, "Options")
    if isinstance(options, str) and options.strip():
        return replace(parts, problem=f"{parts.problem}\n{text_of(options, 'Options')}")
    return parts


def _read_prmbench(row: Row, wanted: Wanted) -> Parts:
    parts = read_fields(row, wanted)
    errors = read(row, "error_steps", "labels_field", list_of)
    return replace(parts, labels=labels.of_errors(errors, "error_steps", len(parts.steps)))


def _read_prm800k(row: Row, wanted: Wanted) -> Parts:
    """Of each step the completion that was chosen, else the human's, else the first one with a rating."""
    problem = read(row, wanted.names("problem_field"), "problem_field", message_text)
    if value_at(row, "label.finish_reason") == "bad_problem":
        raise ValueError("bad problem")
    texts: list[str] = []
    ratings: list[Any] = []
    for step in read(row, wanted.names("steps_field"), "steps_field", list_of):
        if not isinstance(step, Mapping):
            raise FieldError("step is not an object", "steps_field")
        offered = step.get("completions")
        completions = [item for item in offered if isinstance(item, Mapping)] if isinstance(offered, list | tuple) else []
        chosen, human = step.get("chosen_completion"), step.get("human_completion")
        if isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen < len(completions):
            completion = completions[chosen]
        elif isinstance(human, Mapping):
            completion = {**human, "rating": 1 if is_missing(human.get("rating")) else human["rating"]}
        elif completions:
            completion = next((item for item in completions if not is_missing(item.get("rating"))), completions[0])
        else:
            raise ValueError("step without a completion")
        texts.append(_step_text(completion))
        ratings.append(completion.get("rating"))
    return Parts(problem=problem, steps=texts, labels=labels.of_ratings(ratings, "ratings", wanted.neutral), answer=_answer(row, wanted))


_FIRST_STEP = re.compile(r"\bStep[ \t]*1[ \t]*:")


def _read_math_shepherd(row: Row, wanted: Wanted) -> Parts:
    """``input`` is the problem and the steps, with a tag after each; ``label`` the same with + or - in the places of the tags."""
    tagged = read(row, wanted.names("steps_field"), "steps_field", text_of)
    signed = read(row, wanted.names("label_field"), "label_field", text_of)
    *pieces, rest = tagged.split(wanted.step_tag)
    if not pieces:
        raise FieldError(f"no step tag {wanted.step_tag!r}", "step_tag")
    if rest.strip():
        raise ValueError("text after the last step tag")
    start = _FIRST_STEP.search(pieces[0])
    if start is None:
        raise ValueError("no Step 1: in input")
    problem = text_of(pieces[0][: start.start()], "problem")
    signs: list[str] = []
    position = 0
    for piece in pieces:
        end = position + len(piece)
        if signed[position:end] != piece or signed[end : end + 1] not in ("+", "-"):
            raise ValueError("label is not input with signs")
        signs.append(signed[end])
        position = end + 1
    steps = [pieces[0][start.start() :], *pieces[1:]]
    by_sign = labels.of_values(signs, "labels")
    return Parts(problem=problem, steps=[step.strip() for step in steps], labels=by_sign, answer=_answer(row, wanted))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """``fields`` are its names, by the setting that they are the default of; ``fits(row)`` is whether a row has this layout."""

    fits: Callable[[Row], bool]
    fields: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    label_base: int | None = None
    read: Callable[[Row, Wanted], Parts] = read_fields


def _has(*names: str) -> Callable[[Row], bool]:
    return lambda row: all(name in row for name in names)


LAYOUTS: dict[str, Layout] = {
    "mr_ben": Layout(
        fits=lambda row: "Model_Solution_Steps" in row or "model_output_steps" in row,
        fields={
            "problem_field": ("Question", "question"),
            "steps_field": ("Model_Solution_Steps", "model_output_steps"),
            "answer_field": ("Ground_Truth_Answer", "ground_truth_answer"),
            "label_field": ("Model_Solution_First_Error_Step", "model_output_solution_first_error_step"),
            "id_field": ("Question_UUID", "uuid"),
        },
        label_base=1,
        read=_read_mr_ben,
    ),
    "prmbench": Layout(
        fits=_has("modified_process", "error_steps"),
        fields={
            "problem_field": ("modified_question", "question", "original_question"),
            "steps_field": "modified_process",
            "label_field": "first_error",
        },
        read=_read_prmbench,
    ),
    "prm800k": Layout(
        fits=lambda row: isinstance(row.get("question"), Mapping) and isinstance(row.get("label"), Mapping),
        fields={
            "problem_field": "question.problem",
            "steps_field": "label.steps",
            "answer_field": "question.ground_truth_answer",
        },
        read=_read_prm800k,
    ),
    "math_shepherd": Layout(
        fits=lambda row: isinstance(row.get("input"), str) and isinstance(row.get("label"), str) and "steps" not in row,
        fields={"steps_field": "input", "label_field": "label"},
        read=_read_math_shepherd,
    ),
    "stepwise": Layout(
        fits=_has("prompt", "completions", "labels"),
        fields={"problem_field": "prompt", "steps_field": "completions"},
    ),
    "processbench": Layout(
        fits=_has("problem", "steps", "label"),
        fields={"problem_field": "problem", "steps_field": "steps", "label_field": "label"},
        label_base=0,
    ),
    "plain": Layout(fits=lambda row: True),
}
