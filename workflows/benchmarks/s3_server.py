"""An S3 server on loopback (moto's) that can be made to fail, and that counts what it is asked.

``python -m workflows.benchmarks.s3_server PORT`` starts it.

``GET /_control/503`` has it answer 503 from then on, ``/_control/slow`` after half a second, ``/_control/dead`` not at all, as a server
that was killed; ``/_control/ok`` as usual. ``/_control/counts`` gives how many requests of each kind there were.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

SLOW_S = 0.5
BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>'
Start = Callable[[str, list[tuple[str, str]]], Any]


def environment(port: int) -> dict[str, str]:
    """By which a process and its children find the server of this port."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "testtest1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Faulty:
    """Moto's application behind a fault."""

    def __init__(self, application: Callable[[dict[str, Any], Start], Iterable[bytes]]) -> None:
        self._application = application
        self._fault = "ok"
        self._counts: Counter[str] = Counter()

    def __call__(self, request: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = request["PATH_INFO"]
        if path.startswith("/_control/"):
            asked = path.rpartition("/")[2]
            if asked != "counts":
                self._fault = asked
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._counts).encode()]
        kind = str(request["REQUEST_METHOD"])
        if kind == "GET" and ("list-type" in request.get("QUERY_STRING", "") or "prefix=" in request.get("QUERY_STRING", "")):
            kind = "LIST"
        self._counts[kind] += 1
        if self._fault == "503":
            start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(BUSY)))])
            return [BUSY]
        if self._fault == "dead":
            request["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if self._fault == "slow":
            time.sleep(SLOW_S)
        return self._application(request, start)


class Server:
    """The server's process. What it holds is in its memory."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "workflows.benchmarks.s3_server", str(self._port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            with contextlib.suppress(OSError):
                self.control("counts")
                return
            if self.process.poll() is not None:
                raise RuntimeError("the S3 server did not start; is moto installed (make install)?")
            time.sleep(0.1)

    def control(self, what: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/_control/{what}", timeout=10) as answer:
            counts: dict[str, int] = json.loads(answer.read())
        return counts

    def counts(self) -> Counter[str]:
        """How many requests of each kind there were."""
        return Counter(self.control("counts"))

    def make_bucket(self, name: str) -> str:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT"), timeout=10).close()
        return f"s3://{name}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def serving(port: int) -> Iterator[Server]:
    server = Server(port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", int(sys.argv[1]), Faulty(DomainDispatcherApplication(create_backend_app)), threaded=True)


if __name__ == "__main__":
    main()
