"""Critiques and judgements through an endpoint that fails in every way it can, and code that hangs: nothing is lost, all is counted.

What the endpoint refuses is rejected; what it fails at is not: the stage stops, and resumes when the endpoint is mended.
"""

from __future__ import annotations

import http.server
import json
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from actors.engine import Completion, Request, Sampling, Turn
from actors.storage import Folder
from tests.actors.scripts import everyone, say
from tests.workflows.scripted_loop import all_stages, configuration
from workflows.stage import parts
from workflows.stage.errors import StageFailed
from workflows.stage.graph import run_stages
from workflows.stage.ledger import Ledger
from workflows.stage.links import DONE
from workflows.stage.run import Run

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TIMEOUT_S = 2.0
ONCE = {1: "429", 2: "500", 3: "garbage", 4: "half", 5: "nothing", 6: "unfinished"}
REFUSED, FAILED = 9, 7
HANGS = 8


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Serves the scripted roles, but for what is written above, by the first number of the problem."""

    failed: ClassVar[Counter[str]] = Counter()
    mended: ClassVar[bool] = False
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = re.search(r"(\d+) plus", asked["messages"][min(1, len(asked["messages"]) - 1)]["content"]) or re.search(
            r"(\d+) plus", asked["messages"][0]["content"]
        )
        key = int(number[1]) if number else None
        way = self._way(key, asked)
        if way in ("429", "500", "400"):
            self._send(int(way), b'{"error": {"message": "no"}}')
        elif way == "garbage":
            self._send(200, b"<html>It works!")
        elif way == "nothing":
            time.sleep(TIMEOUT_S + 1)
            self.close_connection = True
        else:
            body = json.dumps(answer(asked, hangs=key == HANGS, finished=way != "unfinished")).encode()
            self._send(200, body, cut=len(body) // 2 if way == "half" else None)

    def _way(self, key: int | None, asked: dict[str, Any]) -> str | None:
        if key == REFUSED:
            return "400"
        if key == FAILED and not Endpoint.mended:
            return "500"
        with Endpoint.lock:
            role = f"{key} {asked['messages'][0]['role']}"
            if key not in ONCE or Endpoint.failed[role]:
                return None
            Endpoint.failed[role] += 1
            return ONCE[key]

    def _send(self, status: int, body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None

    def log_message(self, *_: object) -> None:
        """Quiet."""


def answer(asked: dict[str, Any], *, hangs: bool, finished: bool) -> dict[str, Any]:
    last = asked["messages"][-1]
    prefix = last["content"] if last["role"] == "assistant" else ""
    request = Request(
        turns=tuple(Turn(role=turn["role"], content=turn["content"]) for turn in asked["messages"][: -1 if prefix else None]),
        prefix=prefix,
        sampling=Sampling(),
        seed=asked["seed"],
        n=asked["n"],
    )
    is_check = request.turns[0].content.startswith("Count")  # the engine's first request
    completions = [say(" 5")] * request.n if is_check else everyone(request)
    if hangs:
        completions = [
            replace(item, text=re.sub(r"print\((.*)\)\n```", r"print(\1, flush=True)\nwhile True: pass\n```", item.text))
            for item in completions
        ]
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [choice(index, item, finished) for index, item in enumerate(completions)],
        "usage": {"prompt_tokens": 1, "completion_tokens": sum(item.num_tokens for item in completions), "total_tokens": 1},
    }  # fmt: skip


def choice(index: int, item: Completion, finished: bool) -> dict[str, Any]:
    positions = [
        {
            "token": "t",
            "logprob": 0.0,
            "bytes": None,
            "top_logprobs": [{"token": t, "logprob": p, "bytes": None} for t, p in position.items()],
        }
        for position in item.logprobs_T
    ]
    return {
        "index": index,
        "finish_reason": str(item.finish) if finished else None,
        "message": {"role": "assistant", "content": item.text if finished else item.text[:3]},
        "logprobs": {"content": positions} if positions else None,
    }


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(400)
def test_refused_rows_are_rejected_failed_ones_resumed_and_the_rest_is_as_it_would_be(endpoint: str, calm: Folder, tmp_path: Path) -> None:
    calm_path = Path(calm.uri)
    for stage in ("problems", "rollouts", "solutions", "estimates/paper", "labels/rpe"):
        shutil.copytree(calm_path / stage, tmp_path / "run" / stage)
    run = Folder(str(tmp_path / "run"))
    http_engine = f"{{type='http', base_url='{endpoint}', model='m', api_key_env='PATH', timeout_s={TIMEOUT_S}, max_retries=2}}"
    limits = ["failures.patience_s=4.0", "failures.first_pause_s=0.1", "failures.longest_pause_s=1.0", "side_by_side=false"]
    changes = [*limits, "executor.timeout_s=4.0", *(f"engines.{role}={http_engine}" for role in ("rationale", "verifier"))]
    config = configuration(calm_path.parent, run, changes)
    wanted_stages = ["conversations/rpe", "evaluate/genprm/sums"]
    failures = r"none of the \d+ rows that are left .*4 s, last with EngineError: .* failed 3 times, last with"
    with pytest.raises(StageFailed, match=failures):
        run_stages(all_stages(config, run), Run.untracked(run), wanted_stages)
    assert Ledger.read(run / "rationales").rejects == {"engine refused": 2}
    Endpoint.mended = True
    run_stages(all_stages(config, run), Run.untracked(run), wanted_stages)

    for stage, ids in (("rationales", [f"p{REFUSED}/s0", f"p{REFUSED}/s1"]), ("evaluate/genprm/sums", [f"b{REFUSED}"])):
        wanted, found = ({row["id"]: row for row in parts.read_rows(folder, stage)} for folder in (calm, run))
        rejects = {row["id"]: row for row in parts.read_rejects(run, stage)}
        assert sorted(rejects) == sorted(ids)
        assert {row["reason"] for row in rejects.values()} == {"engine refused"}
        assert "refused: HTTP 400" in rejects[ids[-1]]["detail"]
        record = (run / stage).read_json(DONE)
        assert record["rejects"] == {"engine refused": len(ids)}
        assert record["rows_out"] + len(ids) == record["rows_in"] == len(wanted)
        assert sorted(found) == sorted(set(wanted) - set(ids))
        for key, row in found.items():
            hung = key.startswith((f"p{HANGS}/", f"b{HANGS}"))
            assert ("while True: pass" in json.dumps(row)) == ("timed out after 4 s" in json.dumps(row)) == hung
            if not hung:
                assert without_counts(row) == without_counts(wanted[key])
    assert Endpoint.failed == {f"{key} {role}": 1 for key in ONCE for role in ("user", "system")}
    kept = {row["id"] for row in parts.read_rows(run, "conversations/rpe")}
    assert kept >= {f"p{key}/s{index}" for key in ONCE for index in (0, 1)}


def without_counts(row: dict[str, Any]) -> str:
    """An endpoint's tokenizer is out of reach, so segments have no counts."""
    return re.sub(r'"num_tokens": (\d+|null)', "", json.dumps(row))
