"""Which of several endpoints that serve one model a request goes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

DOWN_FROM = 3
"""So many failures in a row: an endpoint is down."""
FIRST_REST_S, LONGEST_REST_S = 1.0, 30.0
SLACK = 8
"""A request leaves the endpoint that has its chat in the prefix cache only where that has so many more requests than another."""


@dataclass
class _State:
    in_flight: int = 0
    failures: int = 0
    down_until: float = 0.0


class Endpoints:
    """Requests with the same ``key`` (the beginning of a chat) go to the same endpoint, for its prefix cache, as long as it has hardly more
    to do than the others. One that failed `DOWN_FROM` times in a row gets none for a while; where all are down they are asked all the
    same, since failures may be those of single requests."""

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.urls = tuple(urls)
        self._states = [_State() for _ in urls]
        self._clock = clock

    @contextmanager
    def chosen(self, key: int) -> Iterator[int]:
        """The number of the endpoint for a request, which is counted there meanwhile."""
        number = self._choose(key)
        self._states[number].in_flight += 1
        try:
            yield number
        finally:
            self._states[number].in_flight -= 1

    def _choose(self, key: int) -> int:
        now = self._clock()
        up = [number for number, state in enumerate(self._states) if state.down_until <= now] or range(len(self.urls))
        preferred = up[key % len(up)]
        least = min(up, key=lambda number: self._states[number].in_flight)
        return preferred if self._states[preferred].in_flight <= self._states[least].in_flight + SLACK else least

    def succeed(self, number: int) -> None:
        self._states[number].failures, self._states[number].down_until = 0, 0.0

    def fail(self, number: int) -> None:
        """A failure of the endpoint's, not of the request's; while it is down those of requests from before tell nothing new."""
        state = self._states[number]
        if state.down_until > self._clock():
            return
        state.failures += 1
        if state.failures >= DOWN_FROM:
            state.down_until = self._clock() + min(FIRST_REST_S * 2 ** (state.failures - DOWN_FROM), LONGEST_REST_S)
