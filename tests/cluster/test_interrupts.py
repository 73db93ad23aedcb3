"""An interrupt that a callback drops is not lost."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from cluster import interrupts


def test_a_dropped_interrupt_is_raised_again_at_the_next_check() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        interrupts.watch()
        interrupts.check()
        with contextlib.suppress(KeyboardInterrupt):  # as a library's callback does
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.watch()
        interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)
