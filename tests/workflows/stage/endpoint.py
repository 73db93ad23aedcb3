"""A chat endpoint that can be down, and a worker that asks it once for every row."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from actors.engine import HttpEngineConfig, Request, Sampling, Turn
from actors.engine.http_engine import HttpEngine
from actors.remote import Handles
from genprm.records import BenchmarkSolution
from genprm.section import Section


class Endpoint:
    """Answers every question with its own text; counts how often it answered each. ``latency_s`` is the time that an answer takes."""

    def __init__(self, port: int, latency_s: float = 0.0) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.answered: Counter[str] = Counter()
        self.refuses: set[str] = set()
        self.fails: set[str] = set()
        self._port = port
        self._latency_s = latency_s
        self._server: http.server.ThreadingHTTPServer | None = None

    def up(self) -> None:
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = asked["messages"][0]["content"]
                status = 400 if text in endpoint.refuses else 500 if text in endpoint.fails else 200
                if endpoint._latency_s:
                    threading.Event().wait(endpoint._latency_s)
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
                body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
                data = json.dumps(body if status == 200 else {"error": {"message": "no"}}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(data)
                endpoint.answered[text] += status == 200

            def log_message(self, *_: object) -> None:
                """Quiet."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self) -> None:
        """Connections are refused from here on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextlib.contextmanager
def serving(port: int, latency_s: float = 0.0) -> Iterator[Endpoint]:
    endpoint = Endpoint(port, latency_s)
    endpoint.up()
    try:
        yield endpoint
    finally:
        endpoint.down()


class Asker:
    """problem -> the endpoint's answer, after no retries of its own"""

    def __init__(self, url: str, _: Section, __: Handles) -> None:
        os.environ["TEST_KEY"] = "key"
        self._engine = HttpEngine(HttpEngineConfig(base_url=url, model="m", api_key_env="TEST_KEY", timeout_s=5.0, max_retries=0))

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        request = Request(turns=(Turn(role="user", content=row["id"]),), prefix="", sampling=Sampling(), seed=0)
        (completion,) = await self._engine.generate(request)
        return [BenchmarkSolution(id=row["id"], problem=completion.text, steps=("a",), label=-1)]
