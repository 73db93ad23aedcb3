"""The child process of `actors.grading.pool`: ``python -m actors.grading.process``. One JSON line a question, one an answer."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable

from genprm.records import Outcome

ORPHAN_LIMIT_S = 300
MEMORY_LIMIT_BYTES = 4 << 30


def serve(compare: Callable[[str, str], Outcome]) -> None:
    """The child's loop: a line to say that it is ready, then one outcome for every question until the pipe closes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not pose as a reply
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        answer, reference = json.loads(line)
        signal.alarm(ORPHAN_LIMIT_S)  # default action: the kernel ends a hung child whose parent is gone
        try:
            outcome = compare(answer, reference)
        except Exception:  # model text through a third-party parser: anything may be raised
            outcome = Outcome.UNPARSABLE
        signal.alarm(0)
        print(json.dumps(outcome.value), file=replies, flush=True)


if __name__ == "__main__":
    from genprm.grading import compare as compare_answers

    compare_answers("1", "1.0")  # imports and first-use costs before the clock runs
    serve(compare_answers)
