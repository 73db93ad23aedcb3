"""Rows with a solution and perhaps step labels, in any of the `layouts`: what `solutions` and `benchmarks` share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from genprm.section import Section
from genprm.steps import STEP_TAG, strip_markers
from workflows.inputs import labels, names
from workflows.inputs.fields import LONGEST_LIST, FieldError, Names, found, label_text
from workflows.inputs.layouts import LAYOUTS, Layout

Format = Literal["auto", "plain", "processbench", "prm800k", "math_shepherd", "mr_ben", "prmbench", "stepwise"]
FIELDS = ("problem_field", "steps_field", "solution_field", "answer_field", "label_field", "labels_field")


class LabelledConfig(Section):
    """How rows are read (docs/own-data.md). ``auto`` recognises the layout of each row by its names; it is ``plain`` where a field is set.

    A field setting that is set replaces the layout's own names and is exact. ``label_field`` is the index of the first bad step,
    counted from ``label_base``; -1 or N/A for none. ``labels_field`` is a list with one label a step: 1 and 0, or with ``label_values =
    "ratings"`` 1, 0 and -1, where 0 is good or bad as ``neutral`` says. ``unmarked`` says what a solution text without ``Step k:`` is.
    """

    format: Format = "auto"
    problem_field: Names = names.PROBLEM
    steps_field: Names = ("steps", "solution_steps")
    solution_field: Names = ("response", "completion", "generated_solution", "model_solution", "generation", "output", "solution")
    answer_field: Names = names.ANSWER
    label_field: Names = ("label", "first_error")
    labels_field: Names = ("labels", "step_labels", "given_labels_S")
    id_field: Names = names.ID
    level_field: Names = names.LEVEL
    label_base: Literal[0, 1] = 0
    label_values: Literal["binary", "ratings"] = "binary"
    neutral: Literal["good", "bad"] = "good"
    unmarked: Literal["paragraphs", "one_step"] = "paragraphs"
    step_tag: str = Field(default=STEP_TAG, min_length=1)
    limit: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """A checked row. ``labels_S`` is None where the row has no labels, ``given_id`` where it has no id; counts as in `Parts`."""

    problem: str
    steps: tuple[str, ...]
    labels_S: tuple[int, ...] | None
    answer: str | None
    given_id: str | None
    level: str | None
    num_empty: int
    num_merged: int


class LabelledReader:
    """Reads rows as a configuration says."""

    def __init__(self, config: LabelledConfig) -> None:
        self._format = config.format
        if config.format == "auto" and any(_is_set(config, setting) for setting in FIELDS):
            self._format = "plain"
        self._wanted = {name: _Wanted(config, layout) for name, layout in LAYOUTS.items()}

    def read(self, row: Mapping[str, Any]) -> LabelledRow:
        """The solution in a row; the text of a ValueError is the reason why there is none."""
        wanted = self._for(row)
        parts = wanted.layout.read(row, wanted)
        steps, given = strip_markers(parts.steps), parts.labels
        num_steps = len(steps)
        while steps and not steps[-1]:
            steps.pop()
        if given is not None and len(given) == num_steps:
            if 0 in given[len(steps) :] and 0 not in given[: len(steps)]:
                raise ValueError("label is an empty step")
            given = given[: len(steps)]
        if not steps:
            raise FieldError("no steps", "steps_field")
        if not all(steps):
            raise ValueError("empty step")
        return LabelledRow(
            problem=parts.problem,
            steps=tuple(steps),
            labels_S=None if given is None else labels.complete(given, len(steps)),
            answer=parts.answer,
            given_id=label_text(found(row, wanted.names("id_field"))[1], "id"),
            level=label_text(found(row, wanted.names("level_field"))[1], "level"),
            num_empty=parts.num_empty + num_steps - len(steps),
            num_merged=parts.num_merged,
        )

    def several(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """A row for each solution, where a row without steps has a list of solution texts (samples of one problem); else the row."""
        wanted = self._for(row)
        if found(row, wanted.names("steps_field"))[1] is not None:
            return [row]
        name, value = found(row, wanted.names("solution_field"))
        if not isinstance(value, list) or not value or len(value) > LONGEST_LIST or not all(isinstance(item, str) for item in value):
            return [row]
        return [{**row, name: item} for item in value]

    def looked_for(self, row: Mapping[str, Any], *, with_labels: bool = False) -> dict[str, str | tuple[str, ...]]:
        """The names that are looked for in such a row, by setting."""
        wanted = self._for(row)
        settings = ("problem_field", "steps_field", "solution_field", *(("label_field", "labels_field") if with_labels else ()))
        return {setting: wanted.names(setting) for setting in settings}

    def _for(self, row: Mapping[str, Any]) -> _Wanted:
        name = self._format
        return self._wanted[name if name != "auto" else next(name for name, layout in LAYOUTS.items() if layout.fits(row))]


class _Wanted:
    """The names and meanings that a layout is read with: its own, where the configuration sets none."""

    def __init__(self, config: LabelledConfig, layout: Layout) -> None:
        self.layout = layout
        self.neutral: str = config.neutral
        self.unmarked: str = config.unmarked
        self.step_tag = config.step_tag
        self.label_base: int = config.label_base
        self.label_values: str = config.label_values
        if layout.label_base is not None and not _is_set(config, "label_base"):
            self.label_base = layout.label_base
        self._names: dict[str, str | tuple[str, ...]] = {
            name: layout.fields[name] if name in layout.fields and not _is_set(config, name) else getattr(config, name)
            for name in (*FIELDS, "id_field", "level_field")
        }

    def names(self, setting: str) -> str | tuple[str, ...]:
        return self._names[setting]


def _is_set(config: LabelledConfig, setting: str) -> bool:
    """Whether a setting is not what it is by default; this also holds for a configuration that was saved whole."""
    return bool(getattr(config, setting) != type(config).model_fields[setting].default)
