"""Several endpoints of one model: who gets which request, and what is asked of those that are down."""

from __future__ import annotations

from contextlib import ExitStack

from actors.engine.endpoints import DOWN_FROM, FIRST_REST_S, SLACK, Endpoints


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_chat_stays_with_its_endpoint_until_that_has_much_more_to_do() -> None:
    endpoints = Endpoints(["a", "b", "c"])
    with ExitStack() as requests:
        chosen = [requests.enter_context(endpoints.chosen(7)) for _ in range(SLACK + 4)]
        assert chosen == [7 % 3] * (SLACK + 1) + [0, 2, 1]  # then the idlest, in turn
    with endpoints.chosen(8) as number:
        assert number == 8 % 3


def chosen(endpoints: Endpoints, key: int) -> int:
    with endpoints.chosen(key) as number:
        return number


def test_the_others_serve_while_one_is_down_and_it_rests_longer_each_time() -> None:
    clock = Clock()
    endpoints = Endpoints(["a", "b"], clock)
    for _ in range(64):  # all that were in flight when it went down
        endpoints.fail(0)
    assert [chosen(endpoints, key) for key in range(4)] == [1, 1, 1, 1]
    clock.now += FIRST_REST_S
    assert chosen(endpoints, 0) == 0  # tried again
    endpoints.fail(0)
    clock.now += FIRST_REST_S
    assert chosen(endpoints, 0) == 1
    clock.now += FIRST_REST_S
    assert chosen(endpoints, 0) == 0
    endpoints.succeed(0)
    for _ in range(DOWN_FROM - 1):
        endpoints.fail(0)
    assert chosen(endpoints, 0) == 0


def test_where_all_are_down_they_are_asked_all_the_same() -> None:
    endpoints = Endpoints(["a", "b"], Clock())
    for number in (0, 1):
        for _ in range(DOWN_FROM):
            endpoints.fail(number)
    assert [chosen(endpoints, key) for key in (0, 1)] == [0, 1]
