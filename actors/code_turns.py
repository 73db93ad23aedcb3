"""A turn with pauses for code: generate until a block closes, run it, append its output, continue.

The rationale model and GenPRM both write this way. The engine never waits: each turn is one coroutine, and while its code
runs the engine serves the others.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from actors.code_executor import CodeRefused, CodeRunner, CodeStatus
from actors.engine import Completion, ContextOverflow, Engine, Finish, Piece, Request, Sampling, Turn
from genprm import rationale
from genprm.records import Segment, SegmentKind

CHARACTERS_PER_TOKEN = 3
"""For a limit, where an endpoint does not say how many tokens it wrote; few, so that none is exceeded by much."""


class Ending(enum.StrEnum):
    """How writing ended: at a wanted string, by the model's own end of turn, or for lack of tokens (the context's too) or code rounds."""

    WANTED = "wanted"
    END_OF_TURN = "end_of_turn"
    OUT_OF_TOKENS = "out_of_tokens"
    OUT_OF_ROUNDS = "out_of_rounds"


@dataclass
class CodeTurn:
    """An assistant turn in progress: finished segments, and the running text since the last one; ``pieces`` are all of it as it was
    written, for the tokenizer."""

    segments: list[Segment] = field(default_factory=list)
    running: str = ""
    pieces: list[Piece] = field(default_factory=list)
    ends_in_prefill: bool = False
    num_tokens: int = 0
    num_code_blocks: int = 0

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments) + self.running

    def prefill(self, text: str) -> None:
        """Write on the model's behalf; what is written so without a pause is one piece."""
        self.running += text
        if self.ends_in_prefill:
            text = self.pieces.pop().text + text
        self.pieces.append(Piece(text=text))
        self.ends_in_prefill = True

    def write(self, completion: Completion) -> None:
        """What the model wrote."""
        self.running += completion.text
        self.num_tokens += completion.num_tokens
        if completion.text:
            self.pieces.append(completion.piece)
            self.ends_in_prefill = False

    def finished_segments(self) -> list[Segment]:
        """All segments, the running text among them."""
        return [*self.segments, Segment(kind=SegmentKind.TEXT, text=self.running)] if self.running else list(self.segments)

    def counted(self, engine: Engine) -> tuple[Segment, ...]:
        """All segments with their tokens, where the engine can count them."""
        return tuple(replace(segment, num_tokens=engine.count_tokens(segment.text)) for segment in self.finished_segments())

    def close_block(self, block: rationale.Block, output: str | None) -> None:
        """Split the running text at a closed block; append ``output`` if the code was run. What was written after the block, without its
        output, is dropped, and the closing fence is written as it should be."""
        before, after = self.running[: block.begin], self.running[block.code_end :]
        if after != block.closing:
            self._drop(len(after))
            self.pieces.append(Piece(text=block.closing))
        code = self.running[block.begin : block.code_end]
        written = [(SegmentKind.TEXT, before), (SegmentKind.CODE, code), (SegmentKind.TEXT, block.closing)]
        if output is not None:
            text = rationale.code_output_block(output)
            written.append((SegmentKind.OUTPUT, text))
            self.pieces += [Piece(text=rationale.CODE_OUTPUT), Piece(text=text.removeprefix(rationale.CODE_OUTPUT), is_data=True)]
        self.ends_in_prefill = False
        self.segments += [Segment(kind=kind, text=text) for kind, text in written if text]
        self.running = ""
        self.num_code_blocks += 1

    def _drop(self, number: int) -> None:
        """Take the last characters back."""
        while number:
            last = self.pieces.pop()
            if len(last.text) > number:
                self.pieces.append(Piece(text=last.text[:-number]))
            number = max(0, number - len(last.text))


async def write_with_code(
    turn: CodeTurn,
    *,
    engine: Engine,
    runner: CodeRunner | None,
    session: str | None,
    turns: tuple[Turn, ...],
    until: tuple[str, ...],
    sampling: Sampling,
    seed: int,
    max_code_rounds: int,
) -> Ending:
    """Continue ``turn`` in place until one of ``until`` is written, at most ``max_code_rounds`` blocks further.

    ``sampling.max_tokens`` bounds what is written here altogether. With no ``runner`` code is written but not run, and
    nothing is appended after it. Raises CodeRefused where a block could not be run at all, which must not look like output.
    """
    budget = sampling.max_tokens
    rounds = 0
    call = 0
    while budget > 0:
        request = Request(
            turns=turns,
            prefix=turn.text,
            pieces=tuple(turn.pieces),
            wants_ids=True,
            sampling=sampling.model_copy(update={"max_tokens": budget}),
            seed=seed + call,
            stop=(rationale.FENCE_END, *until),
        )
        try:
            completion = (await engine.generate(request))[0]
        except ContextOverflow:
            return Ending.OUT_OF_TOKENS
        call += 1
        turn.write(completion)
        budget -= completion.num_tokens or 1 + len(completion.text) // CHARACTERS_PER_TOKEN
        if completion.finish is Finish.LENGTH:
            return Ending.OUT_OF_TOKENS
        block = rationale.closed_block(turn.running)
        if block is not None:
            rounds += 1
            output = None
            if runner is not None and session is not None:
                result = await runner.run(session, block.code)
                if result.status is CodeStatus.REFUSED:
                    raise CodeRefused(result.text)
                output = result.text
            turn.close_block(block, output)
            if rounds >= max_code_rounds:
                return Ending.OUT_OF_ROUNDS
        elif any(turn.running.endswith(wanted) for wanted in until):
            return Ending.WANTED
        elif not completion.text.endswith(rationale.FENCE_END):  # which may end another block than Python's
            return Ending.END_OF_TURN
    return Ending.OUT_OF_TOKENS
