"""Hostile snippets are contained, and the runner notices one that is not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from actors.code_executor import CodeStatus, Tier
from actors.code_executor.containment import LIMITS, Bait, Case, read_cases, run_cases
from tests.shared_data import shared


def case(name: str, *blocks: str, statuses: set[CodeStatus], not_output_re: str | None = None) -> Case:
    return Case(name=name, category="test", blocks=blocks, statuses=frozenset(statuses), output_re=None, not_output_re=not_output_re)


def escaped(cases: list[Case], *, namespaces: bool, timeout_s: float = 20.0) -> dict[str, list[str]]:
    report = asyncio.run(run_cases(cases, LIMITS.model_copy(update={"namespaces": namespaces, "timeout_s": timeout_s})))
    allowed = {"stat_probe"} if report.tier is Tier.STANDARD else set()
    return {name: why for name, why in report.escaped.items() if name not in allowed}


@pytest.mark.slow
def test_the_hostile_snippets_are_contained() -> None:
    cases = read_cases(shared("hostile/snippets.jsonl"))
    assert len(cases) == 154
    may_time_out = [case for case in cases if CodeStatus.TIMEOUT in case.statuses]
    assert len(may_time_out) > 20
    assert escaped(may_time_out, namespaces=True, timeout_s=0.3) == {}
    assert escaped([case for case in cases if case not in may_time_out], namespaces=True) == {}


def test_what_namespaces_would_hide_is_contained_without_them() -> None:
    cases = read_cases(shared("hostile/snippets.jsonl"))
    reaching_out = [case for case in cases if case.category in ("secrets", "files", "network", "signals", "process")]
    quick = [case for case in reaching_out if CodeStatus.TIMEOUT not in case.statuses]
    assert len(quick) > 70
    assert escaped(quick, namespaces=False) == {}


def test_the_runner_sees_a_wrong_status_and_a_forbidden_output() -> None:
    cases = [
        case("fine", "print(1)", statuses={CodeStatus.OK}),
        case("wrong status", "1/0", statuses={CodeStatus.OK}),
        case("forbidden", "print('GOT it')", statuses={CodeStatus.OK}, not_output_re="^GOT"),
    ]
    report = asyncio.run(run_cases(cases, LIMITS))
    assert set(report.escaped) == {"wrong status", "forbidden"}
    assert (report.contained, report.total) == (1, 3)


def test_the_bait_tells_what_was_done_to_it() -> None:
    import os
    import socket

    bait = Bait()
    try:
        assert bait.touched() == []
        tokens = bait.tokens(0)
        with socket.create_connection(("127.0.0.1", int(tokens["TCP_PORT"]))):
            pass
        Path(tokens["OUTSIDE"], "evil").touch()
        os.chmod(tokens["CANARY_FILE"], 0o600)
        bait.victim.kill()
        bait.victim.wait(10)
        assert bait.touched() == ["changed: outside", "changed: canary", "changed: victim", "contacted: TCP listener"]
    finally:
        bait.close()
    assert not bait.folder.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: JSONDecodeError"),
        ('{"name": "a"}', "line 1: KeyError"),
        (json.dumps({"name": "a", "category": "b", "code": "", "expectation": {"status": ["odd"]}}), "KeyError: 'odd'"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "snippets.jsonl"
    file.write_text(line)
    with pytest.raises(ValueError, match=message):
        read_cases(file)
