"""From a kept critique to a training conversation with loss spans (sections 3.1.1, 3.2.3)."""

from __future__ import annotations

from collections.abc import Sequence

from genprm import rationale
from genprm.records import Conversation, Critique, Message, Segment, SegmentKind, Span


class NotConvertible(ValueError):
    """A critique from which no conversation can be made; the message is the reason that is counted."""


def assistant_turn(
    paragraph: int, analysis: Sequence[Segment], verification: Sequence[Segment], right: bool, *, direct: bool = False
) -> Message:
    """The assistant turn that judges one paragraph, in the wire format of inference.

    Loss lies on what the model itself would write: not on the pre-fills that inference supplies, and not on code output
    (ours). The pieces are those that inference writes at a time: the model's words up to where it is stopped, and what is supplied
    before it goes on. Each is made into tokens by itself, so neighbouring pieces with loss have a span each. ``direct`` leaves only the
    judgement (the Direct GenPRM baseline).
    """
    verdict = (f"{{{'Yes' if right else 'No'}}}$\n{rationale.OUTPUT_END}", True)
    if direct:
        return message_of_pieces("assistant", [(rationale.OUTPUT_PREFILL, False), verdict, ("\n", True)])
    pieces = [
        (rationale.analyze_prefill(paragraph), False),
        *_written(_stripped(analysis), f"\n{rationale.ANALYZE_END}"),
        (f"\n{rationale.VERIFY_PREFILL}", False),
        *_written(verification, rationale.VERIFY_END),
        (f"\n{rationale.OUTPUT_PREFILL}", True),
        verdict,
        ("\n", True),
    ]
    return message_of_pieces("assistant", pieces)


def _written(segments: Sequence[Segment], end: str) -> list[tuple[str, bool]]:
    """What a model writes, up to ``end``, as pieces: it is stopped behind each block of code, whether that is run or not."""
    pieces: list[tuple[str, bool]] = []
    running, in_code = "", False
    for segment in segments:
        if segment.kind is SegmentKind.OUTPUT:
            pieces += [(running, True), (segment.text, False)]
            running = ""
            continue
        running += segment.text
        if in_code and not segment.text.strip("`~\n"):
            pieces.append((running, True))
            running = ""
        in_code = segment.kind is SegmentKind.CODE
    return [piece for piece in (*pieces, (running + end, True)) if piece[0]]


def message_of_pieces(role: str, pieces: Sequence[tuple[str, bool]]) -> Message:
    """Join (text, carries loss) pieces; each with loss has a span of its own."""
    content = ""
    spans: list[Span] = []
    for text, carries_loss in pieces:
        if carries_loss and text:
            spans.append(Span(start=len(content), end=len(content) + len(text)))
        content += text
    return Message(role=role, content=content, loss_spans=tuple(spans))


def build_conversation(critique: Critique, first_error: int, *, direct: bool = False) -> Conversation:
    """One user and one assistant turn per step, ending at ``first_error`` (0-based, -1 for none).

    NotConvertible if a paragraph lacks its parts.
    """
    last = len(critique.steps) - 1 if first_error == -1 else first_error
    by_paragraph: dict[int, rationale.ParagraphCritique] = {}
    for part in rationale.split_rationale(critique.segments):
        by_paragraph.setdefault(part.paragraph, part)
    messages = [Message(role="system", content=rationale.SYSTEM)]
    users = rationale.user_turns(critique.problem, critique.steps)
    for index in range(last + 1):
        paragraph = by_paragraph.get(index + 1)
        if paragraph is None:
            raise NotConvertible("paragraph skipped")
        analysis = paragraph.part("analyze")
        verification = paragraph.part("verify")
        if analysis is None or verification is None:
            raise NotConvertible("paragraph without its parts")
        code = _from_first_code(verification)
        if code is None:
            raise NotConvertible("paragraph without code")
        messages.append(Message(role="user", content=users[index]))
        messages.append(assistant_turn(index + 1, analysis, code, index != first_error, direct=direct))
    return Conversation(id=critique.id, problem_id=critique.problem_id, messages=tuple(messages), first_error=first_error)


def _stripped(segments: Sequence[Segment]) -> list[Segment]:
    """The segments without space at the beginning of the first and the end of the last one that have more than space."""
    found = list(segments)
    while found and not found[0].text.strip():
        found.pop(0)
    while found and not found[-1].text.strip():
        found.pop()
    if found:
        found[0] = Segment(kind=found[0].kind, text=found[0].text.lstrip())
        found[-1] = Segment(kind=found[-1].kind, text=found[-1].text.rstrip())
    return found


def _from_first_code(verification: Sequence[Segment]) -> tuple[Segment, ...] | None:
    """The verification from its first line of code on: the words before it give way to the fixed lead-in of inference."""
    for index, segment in enumerate(verification):
        if segment.kind is SegmentKind.CODE:
            return tuple(verification[index:])
    return None
