"""The HTTP engine with servers that misbehave (vLLM's own: vllm_server/)."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from actors.engine import Completion, EngineError, Finish, HttpEngineConfig, RequestRefused, Turn, open_engine
from actors.engine.http_engine import HttpEngine
from tests.actors.conftest import ask
from workflows.benchmarks.free_port import free_port


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers each request with the next of ``answers``: a status, or a body."""

    answers: ClassVar[list[int | str]] = []
    served: ClassVar[int] = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = Misbehaving.answers[min(Misbehaving.served, len(Misbehaving.answers) - 1)]
        Misbehaving.served += 1
        body = b"{}" if isinstance(answer, int) else answer.encode()
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Type", "application/json")
        if answer == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def misbehaving_server() -> Iterator[str]:
    """The address of a server on loopback that answers as `Misbehaving`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


GOOD = (
    '{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    '"message":{"role":"assistant","content":" fine"}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
)


def choice(message: dict[str, object], finish: str = "stop", **more: object) -> dict[str, object]:
    return {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}, **more}


def of_choices(*choices: dict[str, object]) -> str:
    return json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices})


def answer(message: dict[str, object], finish: str = "stop", **more: object) -> str:
    return of_choices(choice(message, finish, **more))


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setattr("actors.engine.http_engine.FIRST_PAUSE_S", 0.01)
    Misbehaving.served = 0
    with misbehaving_server() as url:
        yield url


def test_http_engine_tries_again_after_429_and_500_and_garbage(misbehaving: str) -> None:
    Misbehaving.answers = [429, 500, "{not json", GOOD]
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m"))
    began = time.monotonic()
    (completion,) = asyncio.run(engine.generate(ask(n=1)))
    assert (completion.text, completion.num_tokens, Misbehaving.served) == (" fine", 2, 4)
    assert time.monotonic() - began >= 1.0  # as long as the server asked for, although the pauses are short here


def test_http_engine_asks_another_endpoint_when_one_is_down(misbehaving: str, capfd: pytest.CaptureFixture[str]) -> None:
    Misbehaving.answers = [GOOD]
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    engine = HttpEngine(HttpEngineConfig(base_url=(nobody, misbehaving), model="m", max_retries=1))
    engine.check()
    assert f"warning: engine.base_url = '{nobody}': no chat endpoint answers there" in capfd.readouterr().err

    async def ask_often() -> list[str]:
        requests = [replace(ask(n=1), turns=(Turn(role="user", content=str(number)),)) for number in range(12)]
        return [completion.text for (completion,) in await asyncio.gather(*map(engine.generate, requests))]

    assert asyncio.run(ask_often()) == [" fine"] * 12
    with pytest.raises(ValueError, match="base_url is an empty list"):
        HttpEngineConfig(base_url=(), model="m")


def test_http_engine_gives_up_after_its_retries_and_at_once_where_that_is_no_use(misbehaving: str) -> None:
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=2))
    Misbehaving.answers = [503]
    with pytest.raises(EngineError, match="failed 3 times"):
        asyncio.run(engine.generate(ask(n=1)))
    assert Misbehaving.served == 3
    Misbehaving.answers, Misbehaving.served = [401], 0
    with pytest.raises(EngineError, match="refused: HTTP 401"):
        asyncio.run(engine.generate(ask(n=1)))
    assert Misbehaving.served == 1


def test_an_endpoint_that_does_not_answer_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with pytest.raises(ValueError, match=r"engine\.base_url = 'http://127\.0\.0\.1:\d+/v1': no chat endpoint answers"):
        open_engine(HttpEngineConfig(base_url=f"http://127.0.0.1:{free_port()}/v1", model="m", max_retries=0))


def test_what_an_endpoint_leaves_out_is_an_outcome_or_an_error_that_is_said(misbehaving: str) -> None:
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))

    def given(body: str, **asked: object) -> Completion:
        Misbehaving.answers = [body]
        return asyncio.run(engine.generate(ask(n=1, **asked)))[0]  # type: ignore[arg-type]

    nothing = given(answer({"content": None}))
    assert (nothing.text, nothing.finish, nothing.num_tokens) == ("", Finish.STOP, 0), "the model wrote nothing, and no usage was given"
    thinking = given(answer({"content": None, "reasoning_content": "Let me see"}, "length"))
    assert (thinking.text, thinking.finish) == ("", Finish.LENGTH)
    for field in ("reasoning_content", "reasoning"):
        assert given(answer({"content": "7", field: "Let me see"})).text == "7"
        with pytest.raises(EngineError, match="as reasoning and none as content; start the server without a reasoning parser"):
            given(answer({"content": None, field: "Let me see"}))
    with pytest.raises(RequestRefused, match="filtered choice 0"):
        given(answer({"content": None}, "content_filter"))
    alternatives = {"token": "Yes", "logprob": -0.1, "bytes": None, "top_logprobs": [{"token": "Yes", "logprob": -0.1, "bytes": None}]}
    assert given(answer({"content": "Yes"}, logprobs={"content": [alternatives]}), num_logprobs=5).num_tokens == 1, "as many as have them"
    for without in (None, {"content": None}, {"content": [{**alternatives, "top_logprobs": []}]}):
        with pytest.raises(EngineError, match="gives no log-probabilities") as error:
            given(answer({"content": "Yes"}, logprobs=without), num_logprobs=5)
        assert not isinstance(error.value, RequestRefused), "it says nothing about the row"


def test_answers_of_odd_servers_are_read(misbehaving: str) -> None:
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))
    Misbehaving.answers = [of_choices(*(choice({"content": f" {index}"}, index=index) for index in (2, 0, 1)))]
    assert [completion.text for completion in asyncio.run(engine.generate(ask(n=3)))] == [" 0", " 1", " 2"], "by index: each has its seed"
    Misbehaving.answers = [answer({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": " 4"}]})]
    assert asyncio.run(engine.generate(ask(n=1)))[0].text == " 4"
    Misbehaving.answers = [
        '{"id":"1","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"half \\ud83d"}}]}'
    ]
    asyncio.run(engine.generate(ask(n=1)))[0].text.encode()
    Misbehaving.answers = ['{"error": {"message": "quota exceeded", "code": 429}}']
    with pytest.raises(EngineError, match="quota exceeded"):
        asyncio.run(engine.generate(ask(n=1)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>login</html>", "no chat endpoint answers there"),
        (answer({"content": None, "reasoning_content": "Let me"}, "length"), "start the server without a reasoning parser"),
        ('{"error": {"message": "no credit"}}', "no credit"),
    ],
)
def test_the_first_request_shows_what_an_endpoint_can_not_do(misbehaving: str, body: str, message: str) -> None:
    Misbehaving.answers = [body]
    with pytest.raises(ValueError, match=message):
        open_engine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))


def test_a_server_that_cuts_stop_strings_is_not_asked_for_code(misbehaving: str) -> None:
    first = of_choices(choice({"content": " "}), choice({"content": " "}, index=1))
    Misbehaving.answers = [first, answer({"content": ""}), GOOD]
    honest = open_engine(HttpEngineConfig(base_url=misbehaving, model="m", continuation="prefix", max_retries=0))
    assert asyncio.run(honest.generate(ask(n=1, stop=("```",))))[0].text == " fine", "its model ended at once"
    Misbehaving.answers, Misbehaving.served = [first, answer({"content": " 5, 6, 7, 8, "}), GOOD], 0
    engine = open_engine(HttpEngineConfig(base_url=misbehaving, model="m", continuation="prefix", max_retries=0))
    assert asyncio.run(engine.generate(ask(n=1)))[0].text == " fine"
    with pytest.raises(EngineError, match="cuts stop strings off and does not say at which it stopped"):
        asyncio.run(engine.generate(ask(n=1, stop=("```",))))


def test_a_server_that_ignores_n_is_asked_for_one_at_a_time(misbehaving: str, capfd: pytest.CaptureFixture[str]) -> None:
    Misbehaving.answers = [GOOD]
    engine = open_engine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))
    assert "n requests are made instead of one" in capfd.readouterr().err
    assert len(asyncio.run(engine.generate(ask(n=3)))) == 3
    assert Misbehaving.served == 4


def test_a_server_that_refuses_n_is_asked_for_one_at_a_time(misbehaving: str) -> None:
    Misbehaving.answers = [400, GOOD]
    engine = open_engine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))
    assert len(asyncio.run(engine.generate(ask(n=3)))) == 3
    assert Misbehaving.served == 5
    Misbehaving.answers, Misbehaving.served = [400], 0
    with pytest.raises(ValueError, match=r"engine\.continuation = 'vllm': .* refuses a first request with HTTP 400"):
        open_engine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))
    assert Misbehaving.served == 2


@pytest.mark.parametrize("status", [401, 404])
def test_where_one_of_several_endpoints_has_another_key_or_model_the_others_serve(misbehaving: str, status: int) -> None:
    with misbehaving_server() as other:
        Misbehaving.answers = [status, *[GOOD] * 20]
        engine = HttpEngine(HttpEngineConfig(base_url=(misbehaving, other), model="m", max_retries=1))
        assert asyncio.run(engine.generate(ask(n=1)))[0].text == " fine"
        assert Misbehaving.served == 2


def test_http_engine_says_what_it_can_not_do(misbehaving: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m", continuation="none"))
    with pytest.raises(EngineError, match="can't continue an assistant turn"):
        asyncio.run(engine.generate(ask()))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match=r"OPENAI_API_KEY.*export it"):
        HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m"))
