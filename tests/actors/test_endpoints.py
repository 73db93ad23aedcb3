"""Several endpoints of one model: who gets which request, and what is asked of those that are down."""

from __future__ import annotations

from contextlib import ExitStack

from actors.engine.endpoints import DOWN_FROM, FIRST_REST_S, LONGEST_REST_S, SLACK, Endpoints


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


def test_one_that_is_down_gets_one_request_at_a_time_until_it_answers() -> None:
    clock = Clock()
    endpoints = Endpoints(["a"], clock)
    for _ in range(64):  # all that were in flight when it went down
        endpoints.fail(0)
    assert endpoints.rest_s() == FIRST_REST_S
    clock.now += FIRST_REST_S
    assert endpoints.rest_s() == 0
    with endpoints.chosen(1):
        assert endpoints.rest_s() == LONGEST_REST_S  # the others wait
        endpoints.fail(0)
    assert endpoints.rest_s() == 2 * FIRST_REST_S
    clock.now += 2 * FIRST_REST_S
    with endpoints.chosen(1):
        endpoints.succeed(0)
    assert endpoints.rest_s() == 0
    for _ in range(DOWN_FROM - 1):
        endpoints.fail(0)
    assert endpoints.rest_s() == 0


def test_the_others_serve_while_one_is_down() -> None:
    clock = Clock()
    endpoints = Endpoints(["a", "b"], clock)
    for _ in range(DOWN_FROM):
        endpoints.fail(0)
    assert endpoints.rest_s() == 0
    for key in range(6):
        with endpoints.chosen(key) as number:
            assert number == 1
    clock.now += FIRST_REST_S
    with endpoints.chosen(0) as first, endpoints.chosen(0) as second:
        assert (first, second) == (0, 1)  # one request tries it
        endpoints.succeed(0)
    with endpoints.chosen(0) as number:
        assert number == 0
