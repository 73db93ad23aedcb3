"""Critiques from a file instead of the rationale model's: a text in its format, our own segments, or GenPRM's turns as messages.

Whichever it is, `Critique.segments` come out as the rationale model's turn is stored: ``### Paragraph k`` headings, with words, code
and code output apart, so that the later stages need not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from genprm import rationale
from genprm.errors import UserError
from genprm.records import Critique, CritiqueOutcome, Segment, SegmentKind
from genprm.section import IdentifiedBy
from genprm.steps import strip_markers
from workflows.inputs.decontamination import HeldOut
from workflows.inputs.fields import (
    FieldError,
    Names,
    found,
    integer_of,
    is_chat,
    label_text,
    list_of,
    message_content,
    message_role,
    message_text,
    optional,
    text_of,
)
from workflows.inputs.files import data_fingerprint
from workflows.inputs.ids import SolutionIds
from workflows.inputs.labelled import LabelledConfig, LabelledReader
from workflows.inputs.problems import fingerprints
from workflows.inputs.rejects import LookedFor, collected, read_records
from workflows.stage.parts import RejectedRow

LONGEST_CRITIQUE = 1_000_000
"""Characters of a critique with all its paragraphs."""

_CODE_BLOCK = re.compile(r"^```(?:python|py)[ \t]*\n", re.MULTILINE)
_FENCE_CLOSE = re.compile(r"^```[ \t]*$\n?", re.MULTILINE)
_OUTPUT_OPEN = re.compile(r"\s*+(\[Code Output\][ \t]*\n\s*```[^\n`]*\n)")
_SOLUTION_ID = re.compile(r"(.+)/s\d{1,9}", re.DOTALL)


class CritiquesConfig(LabelledConfig):
    """``path`` is what holds the critiques, as in `SolutionsConfig`; None: the rationale model writes them.

    A row has problem and steps, as a solution's, and the critique in one of three fields, of which the first with a value counts:
    ``segments_field`` (a list of kind and text), ``critique_field`` (the text), ``messages_field`` (turns, which may stand for problem and
    steps too). ``verdict_field`` is the judged first error, from 0 on and -1 for none; without it the critique's own words count.
    """

    path: Annotated[str | None, IdentifiedBy(data_fingerprint)] = None
    segments_field: Names = "segments"
    critique_field: Names = ("critique", "rationale")
    messages_field: Names = ("messages", "conversations")
    verdict_field: Names = "judged_first_error"
    benchmarks: Annotated[tuple[str, ...], IdentifiedBy(fingerprints)] = ()


def read_critiques(config: CritiquesConfig, setting: str = "critiques.path") -> tuple[list[Critique], list[RejectedRow], int]:
    """The good critiques, the rejected rows with their reasons, and how many rows were read (their sum).

    A critique without a readable verdict is a good row with the outcome NO_VERDICT. An id of the form ``<problem id>/s<n>`` is that of the
    solution; without one, ids are made as for solutions. ValueError where nothing is named, something can't be read, or every
    row is rejected.
    """
    return collected(iterate_critiques(config, setting))


def iterate_critiques(config: CritiquesConfig, setting: str = "critiques.path") -> Iterator[Critique | RejectedRow]:
    """The same, row by row."""
    if config.path is None:
        raise UserError(f"{setting} is not set; give a file, a folder or hf:NAME:SPLIT with critiques")
    held_out = HeldOut.of(config.benchmarks, f"{setting.rpartition('.')[0]}.benchmarks")
    reader = LabelledReader(config)
    ids = SolutionIds()
    seen: set[str] = set()

    def parse(row: Mapping[str, Any], number: int) -> Critique:
        judged = _judged(row, config, reader)
        held_out.check(judged.problem)
        verdict = optional(row, config.verdict_field, "verdict_field", integer_of)
        if verdict is None:
            verdict = judged.verdict
        elif not -1 <= verdict < len(judged.steps):
            raise FieldError("judged first error is no step", "verdict_field")
        given = label_text(found(row, config.id_field)[1], "id")
        own = _SOLUTION_ID.fullmatch(given) if given is not None else None
        pair = (own[1], own[0]) if own else ids.of(judged.problem, judged.steps, given, number)
        if pair is None or pair[1] in seen:
            raise ValueError("second critique of a solution")
        problem_id, solution_id = pair
        seen.add(solution_id)
        return Critique(
            id=solution_id,
            problem_id=problem_id,
            problem=judged.problem,
            level=label_text(found(row, config.level_field)[1], "level"),
            steps=judged.steps,
            segments=judged.segments,
            outcome=CritiqueOutcome.NO_VERDICT if verdict is None else CritiqueOutcome.READ,
            index_votes_V=(),
            judged_first_error=verdict,
            num_code_blocks=sum(segment.kind is SegmentKind.CODE for segment in judged.segments),
            num_tokens=0,
        )

    def looked_for(row: Mapping[str, Any]) -> LookedFor:
        own = {name: getattr(config, name) for name in ("segments_field", "critique_field", "messages_field")}
        return {**reader.looked_for(row), **own}

    yield from read_records(config.path, setting, parse=parse, looked_for=looked_for, id_names=config.id_field, limit=config.limit)


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A critique and what it is about; ``verdict`` is what its own words say, None where they say nothing readable."""

    problem: str
    steps: tuple[str, ...]
    segments: tuple[Segment, ...]
    verdict: int | None


def _judged(row: Mapping[str, Any], config: CritiquesConfig, reader: LabelledReader) -> _Judged:
    segments = optional(row, config.segments_field, "segments_field", _segments_of)
    if segments is None:
        segments = optional(row, config.critique_field, "critique_field", lambda value, name: cut_text(_text(value, name)))
    if segments is not None:
        solution = reader.read(row)
        return _Judged(
            problem=solution.problem, steps=solution.steps, segments=segments, verdict=final_index(segments, len(solution.steps))
        )
    name, messages = found(row, config.messages_field)
    if messages is None:
        raise FieldError("no critique", "critique_field")
    try:
        return _of_messages(row, config, list_of(messages, name))
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(str(error), "messages_field") from error


def _text(value: Any, name: str) -> str:
    """The text of a critique, space around it included; ValueError where it is none."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    if not value.strip():
        raise ValueError(f"empty {name}")
    if len(value) > LONGEST_CRITIQUE:
        raise ValueError(f"{name} too long")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is not valid Unicode") from error
    return value


def _segments_of(value: Any, name: str) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for item in list_of(value, name):
        if not isinstance(item, Mapping) or not isinstance(item.get("text"), str) or item.get("kind") not in set(SegmentKind):
            raise ValueError(f"{name} are not objects with a text and a kind ({', '.join(SegmentKind)})")
        num_tokens = item.get("num_tokens")
        segments.append(
            Segment(kind=SegmentKind(item["kind"]), text=item["text"], num_tokens=num_tokens if isinstance(num_tokens, int) else None)
        )
    _text("".join(segment.text for segment in segments), name)
    return tuple(segments)


def cut_text(text: str) -> tuple[Segment, ...]:
    """A critique's text as segments, which are the text when joined: words, the code of closed python blocks, and the output after them.

    Output is a fenced block under ``[Code Output]`` that follows a code block at once; anywhere else it is words.
    """
    segments: list[Segment] = []
    done = position = 0
    while opening := _CODE_BLOCK.search(text, position):
        closing = _FENCE_CLOSE.search(text, opening.end())
        if closing is None:
            break
        position = closing.end()
        output = _OUTPUT_OPEN.match(text, position)
        output_end = _FENCE_CLOSE.search(text, output.end()) if output else None
        pieces = [(SegmentKind.TEXT, done, opening.end()), (SegmentKind.CODE, opening.end(), closing.start())]
        if output is not None and output_end is not None:
            pieces += [(SegmentKind.TEXT, closing.start(), output.start(1)), (SegmentKind.OUTPUT, output.start(1), output_end.end())]
            done = position = output_end.end()
        else:
            done = closing.start()
        segments += [Segment(kind=kind, text=text[start:end]) for kind, start, end in pieces if start < end]
    if done < len(text):
        segments.append(Segment(kind=SegmentKind.TEXT, text=text[done:]))
    return tuple(segments)


def final_index(segments: Sequence[Segment], num_steps: int) -> int | None:
    """The judged first error, from 0 on and -1 for none, that the words after the last paragraph box; None where they don't.

    What stands inside a paragraph, code or output is no verdict: it may quote the solution's own box.
    """
    words = "".join(segment.text if segment.kind is SegmentKind.TEXT else "\0" for segment in segments)
    marks = (rationale.VERIFY_END, rationale.ANALYZE_END, rationale.THINK_END)
    words = words[max(words.rfind(mark) for mark in marks) + 1 :]
    _, boxed, after = words.rpartition("\\boxed")
    return rationale.read_final_index(after, num_steps) if boxed else None


def _of_messages(row: Mapping[str, Any], config: CritiquesConfig, messages: list[Any]) -> _Judged:
    """From GenPRM's turns: each user turn is a step, the first one after the problem; each assistant turn judges it."""
    if not is_chat(messages):
        raise ValueError("messages are not objects with role and content")
    turns = [(message_role(message), message_content(message)) for message in messages]
    if turns[0][0] == "system":
        turns.pop(0)
    if not turns or len(turns) % 2 or any(role != ("user", "assistant")[index % 2] for index, (role, _) in enumerate(turns)):
        raise ValueError("messages are not pairs of user and assistant")
    asked = [text_of(content, "message") for _, content in turns[::2]]
    written = [_text(content, "message") for _, content in turns[1::2]]
    given = optional(row, config.steps_field, "steps_field", list_of)
    steps = None if given is None else [text_of(step, "step") for step in given]
    problem, first_step = _problem_and_step(
        asked[0].removeprefix("Question:").strip(),
        optional(row, config.problem_field, "problem_field", message_text),
        steps[0] if steps else None,
    )
    steps = steps or [first_step, *asked[1:]]
    if len(steps) < len(asked):
        raise ValueError("more user messages than steps")
    steps = strip_markers(steps)
    if not all(steps):
        raise ValueError("empty step")
    segments: list[Segment] = []
    for paragraph, text in enumerate(written, start=1):
        lead_in = rationale.analyze_prefill(paragraph)
        text = text.lstrip()
        text = f"<analyze>\n{text[len(lead_in) :]}" if text.startswith(lead_in) else text
        judgement = text.rfind("<output>")
        text = text if judgement < 0 else text[:judgement]
        segments += cut_text(f"### Paragraph {paragraph}\n{text.rstrip()}\n\n")
    return _Judged(problem=problem, steps=tuple(steps), segments=tuple(segments), verdict=_first_no(written, len(steps)))


def _problem_and_step(turn: str, problem: str | None, step: str | None) -> tuple[str, str]:
    """The problem and the first step, which GenPRM's first user turn joins by a line break (its published notebooks by two)."""
    if problem is not None:
        if step is not None:
            return problem, step
        if turn.startswith(problem) and turn[len(problem) :].strip():
            return problem, turn[len(problem) :].strip()
        raise ValueError("the first message does not begin with the problem")
    if step is not None:
        if turn.endswith(step) and turn[: len(turn) - len(step)].strip():
            return turn[: len(turn) - len(step)].strip(), step
        raise ValueError("the first message does not end in the first step")
    for separator in ("\n\n", "\n"):
        before, found_one, after = turn.rpartition(separator)
        if found_one and before.strip() and after.strip():
            return before.strip(), after.strip()
    raise ValueError("the first message has no step")


def _first_no(turns: Sequence[str], num_steps: int) -> int | None:
    """The first paragraph judged No; -1 if all steps are judged Yes; None where a verdict before that is missing."""
    for index, turn in enumerate(turns):
        verdict = rationale.read_verdict(turn)
        if verdict is rationale.Verdict.NO:
            return index
        if verdict is rationale.Verdict.UNREADABLE:
            return None
    return -1 if len(turns) == num_steps else None
