"""What is shown of a stage while it runs."""

from __future__ import annotations

import io
import json
import time

import pytest

from workflows.stage.progress import StageProgress, duration
from workflows.stage.terminal import Mode, Terminal


def test_rows_rejects_and_those_done_before_are_counted() -> None:
    progress = StageProgress("s", done=2, total=10)
    assert progress.time_left() == "starting"
    progress.add(rows=3, rejects=0, tokens=50)
    progress.add(rows=4, rejects=1, tokens=50)
    assert progress.line().startswith("s: 9/10, 1 rejected, ")
    assert progress.tokens == 100
    assert progress.eta_s is not None


@pytest.mark.parametrize(("seconds", "shown"), [(39.6, "40 s"), (185, "3:05"), (7385, "2:03:05")])
def test_times_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def lines(mode: Mode) -> list[str]:
    output = io.StringIO()
    terminal = Terminal(mode, output=output, every_s=0.05)
    with terminal.stage("s", done=0, total=10) as progress:
        progress.add(rows=5, rejects=1, tokens=70)
        for _ in range(200):
            if output.getvalue().count("\n") >= 2 or mode == "quiet":
                break
            time.sleep(0.01)
    written = output.getvalue()
    time.sleep(0.1)
    assert output.getvalue() == written  # nothing more after the end
    return written.splitlines()


def test_a_file_gets_a_line_now_and_then() -> None:
    written = lines("lines")
    assert len(written) >= 2
    assert all(line.startswith("s: 5/10, 1 rejected, ") for line in written)


def test_a_program_gets_json() -> None:
    events = [json.loads(line) for line in lines("json")]
    assert {(event["event"], event["stage"], event["rows"], event["rejects"], event["tokens"]) for event in events} == {
        ("progress", "s", 5, 1, 70)
    }


def test_quiet_is_quiet_but_for_results() -> None:
    assert lines("quiet") == []
    output = io.StringIO()
    terminal = Terminal("quiet", output=output)
    terminal.say("hello")
    terminal.result("42")
    assert output.getvalue() == "42\n"


def test_bars_show_every_running_stage_and_go_when_it_ends() -> None:
    output = io.StringIO()
    terminal = Terminal("live", output=output)
    with terminal.stage("estimates/paper", done=0, total=236) as one, terminal.stage("rationales", done=0, total=100):
        one.add(rows=96, rejects=2, tokens=8000)
        terminal.say("a line above the bars")
        time.sleep(0.4)
    drawn = output.getvalue()
    for shown in ("estimates/paper", "96/236", "rationales", "0/100", "starting", "a line above the bars"):
        assert shown in drawn
    terminal.say("after them")
    assert output.getvalue().endswith("after them\n")
