"""Step forcing and splitting (method: section 3.2.1 of the paper).

The policy's turn is pre-filled with ``Step 1:``, so a solution is a sequence of ``Step k: ...`` blocks. Blank lines are
never used as boundaries: they cut below the level of a step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FIRST_STEP_PREFILL = "Step 1:"
_MARKER = re.compile(r"^[ \t]*Step[ \t]+(\d{1,4})[ \t]*:", re.MULTILINE)


def split_steps(text: str) -> list[str]:
    """Split a step-forced solution into its steps, without their ``Step k:`` markers.

    Only markers that count on from the one before (1, 2, 3, ...) are boundaries, so a step that quotes "Step 1:" stays
    whole. Text before ``Step 1:`` is dropped. Text with no ``Step 1:`` marker is one step (empty text: none).

    >>> split_steps("Step 1: add.\\nStep 2: done.")
    ['add.', 'done.']
    """
    starts: list[tuple[int, int]] = []
    expected = 1
    for marker in _MARKER.finditer(text):
        digits = marker.group(1)
        if digits.isascii() and int(digits) == expected:
            starts.append((marker.start(), marker.end()))
            expected += 1
    if not starts:
        whole = text.strip()
        return [whole] if whole else []
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [text[begin:end].strip() for (_, begin), end in zip(starts, ends, strict=True)]


def join_steps(steps: Sequence[str]) -> str:
    """The text whose ``split_steps`` is ``steps``: ``Step 1: ...\\nStep 2: ...``."""
    return "\n".join(f"Step {number}: {step}" for number, step in enumerate(steps, start=1))


def prefix_after(steps: Sequence[str]) -> str:
    """The assistant prefix from which a completer goes on after ``steps``; it ends in ``Step {t+1}:`` (section 3.2.1)."""
    next_marker = f"Step {len(steps) + 1}:"
    return f"{join_steps(steps)}\n{next_marker}" if steps else next_marker
