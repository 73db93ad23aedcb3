"""An interrupt that a callback drops is not lost."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from cluster import interrupts


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_dropped_interrupt_is_raised_again_at_the_next_check(number: signal.Signals, status: int) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        interrupts.watch()
        interrupts.check()
        with contextlib.suppress(KeyboardInterrupt):  # as a library's callback does
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        assert interrupts.exit_status() == status
        interrupts.watch()
        interrupts.check()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
