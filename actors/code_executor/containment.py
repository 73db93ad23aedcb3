"""Hostile snippets against a real executor, with a look at the whole machine after each.

A file has one JSON object a line: ``name``, ``category``, ``code`` (a block or a list of them) and ``expectation``: the ``status``es
of which the last block must have one, ``output_re`` that its text must match, ``not_output_re`` that none may. Tokens between
``@@`` in the code are filled with this run's bait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from actors.code_executor.config import ExecutorConfig, Tier
from actors.code_executor.executor import CodeExecutor
from actors.code_executor.inside.scratch import remove_tree
from actors.code_executor.libraries import packages
from actors.code_executor.runner import CodeResult, CodeStatus
from actors.code_executor.session_process import GRACE_S
from genprm.errors import UserError

STATUSES: Mapping[str, CodeStatus] = {
    "ok": CodeStatus.OK,
    "exit": CodeStatus.OK,
    "error": CodeStatus.ERROR,
    "timeout": CodeStatus.TIMEOUT,
    "died": CodeStatus.KILLED,
    "dead": CodeStatus.KILLED,
    "killed": CodeStatus.KILLED,
    "protocol": CodeStatus.KILLED,
    "scratch_limit": CodeStatus.KILLED,
    "output_limit": CodeStatus.OUTPUT_LIMIT,
}
"""The names that a file may use for ours."""
SECRET = "CANARY-SECRET"
LIMITS = ExecutorConfig(spares=0, timeout_s=3.0, memory_mib=512, max_output_chars=1 << 16, scratch_mib=32)
"""No spares, which would look like stray processes; limits that a hostile block meets soon, on a slow machine too."""
SLACK_S = 2.0
SETTLE_S = 3.0
FRESH = "print(6 * 7, sorted(name for name in globals() if not name.startswith('__')), len([1, 2]))"
FRESH_TEXT = "42 [] 2"


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    category: str
    blocks: tuple[str, ...]
    statuses: frozenset[CodeStatus]
    output_re: str | None
    not_output_re: str | None


def read_cases(file: Path) -> list[Case]:
    """ValueError names the line and the field that is wrong."""
    cases = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            expected = row["expectation"]
            cases.append(
                Case(
                    name=row["name"],
                    category=row["category"],
                    blocks=tuple([row["code"]] if isinstance(row["code"], str) else row["code"]),
                    statuses=frozenset(STATUSES[status] for status in expected["status"]),
                    output_re=expected.get("output_re"),
                    not_output_re=expected.get("not_output_re"),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"--snippets {file}: line {number}: {type(error).__name__}: {error}") from error
    return cases


class Bait:
    """A victim process, a file, folders, listeners and a secret; ``touched`` tells what was done to them."""

    def __init__(self) -> None:
        self._site = Path(packages(["sympy"])["sympy"]).parent
        self.folder = Path(tempfile.mkdtemp(prefix="containment-"))
        self.folder.chmod(0o755)
        self.secret = f"{SECRET}-{secrets.token_hex(8)}"
        self.outside, self.home = self.folder / "outside", self.folder / "kept"
        for folder in (self.outside, self.home):
            folder.mkdir(mode=0o777)
            folder.chmod(0o777)
        self.canary = self.home / "canary"
        self.canary.write_text(self.secret)
        self.canary.chmod(0o666)
        name = secrets.token_hex(6)
        self.abstract, self.abstract_datagram = f"bait-{name}", f"bait-d-{name}"
        self._tcp = socket.socket()
        self._tcp.bind(("127.0.0.1", 0))
        self._unix, self._stream = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self.unix_path = self.folder / "socket"
        self._unix.bind(str(self.unix_path))
        self.unix_path.chmod(0o777)
        self._stream.bind("\0" + self.abstract)
        self._datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._datagram.bind("\0" + self.abstract_datagram)
        for listener in (self._tcp, self._unix, self._stream):
            listener.listen()
        for listener in (self._tcp, self._unix, self._stream, self._datagram):
            listener.setblocking(False)
        environment = {**os.environ, "CANARY": self.secret}
        nothing = subprocess.DEVNULL  # a victim that outlives a kill of this process holds none of its pipes
        self.victim = subprocess.Popen(
            ["sleep", "3600"], env=environment, start_new_session=True, stdin=nothing, stdout=nothing, stderr=nothing
        )
        self._before = self._state()

    def tokens(self, fork_server: int) -> dict[str, str]:
        return {
            "VICTIM_PID": str(self.victim.pid),
            "EXEC_PID": str(os.getpid()),
            "ZYGOTE_PID": str(fork_server),
            "TCP_PORT": str(self._tcp.getsockname()[1]),
            "UNIX_PATH": str(self.unix_path),
            "ABSTRACT": self.abstract,
            "ABSTRACT_DGRAM": self.abstract_datagram,
            "CANARY_FILE": str(self.canary),
            "CANARY_DIR": str(self.home),
            "OUTSIDE": str(self.outside),
            "SITE": str(self._site),
        }

    def _state(self) -> dict[str, Any]:
        """Everything that an escape would change."""
        state: dict[str, Any] = {"outside": sorted(os.listdir(self.outside)), "beside the canary": sorted(os.listdir(self.home))}
        try:
            status = self.canary.stat()
            state["canary"] = (self.canary.read_text(), status.st_mode, status.st_uid, status.st_mtime_ns, status.st_nlink)
            state["canary's attributes"] = os.listxattr(self.canary)
        except OSError as error:
            state["canary"] = str(error)
        state["library folder"] = sorted(os.listdir(self._site / "sympy"))
        state["home"] = (Path.home() / "evil").exists()
        try:
            victim = psutil.Process(self.victim.pid)
            state["victim"] = (victim.status() != psutil.STATUS_ZOMBIE, victim.nice(), tuple(victim.cpu_affinity()))
        except psutil.Error as error:
            state["victim"] = str(error)
        return state

    def touched(self) -> list[str]:
        now = self._state()
        found = [f"changed: {name}" for name, value in now.items() if value != self._before[name]]
        for name, listener in (("TCP", self._tcp), ("unix", self._unix), ("abstract", self._stream)):
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                found.append(f"contacted: {name} listener")
        with contextlib.suppress(BlockingIOError):
            self._datagram.recv(1)
            found.append("contacted: datagram listener")
        return found

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for listener in (self._tcp, self._unix, self._stream, self._datagram):
            listener.close()
        remove_tree(str(self.folder))


@dataclass
class Report:
    """What was not contained, by case; ``total`` cases were run in ``tier``."""

    tier: Tier = Tier.NONE
    total: int = 0
    escaped: dict[str, list[str]] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def contained(self) -> int:
        return self.total - len(self.escaped)

    def row(self) -> dict[str, Any]:
        return {"benchmark": "containment", "tier": self.tier.value, "contained": self.contained, "total": self.total}


async def run_cases(cases: Sequence[Case], config: ExecutorConfig, *, say: bool = False) -> Report:
    """Run every case in a session of its own; a problem of any kind, with the machine too, counts as not contained.

    ``config.spares`` must be 0: a spare would look like a stray process.
    """
    os.environ["CONTAINMENT_CANARY"] = secret = f"{SECRET}-{secrets.token_hex(8)}"
    executor = CodeExecutor(config)
    bait = Bait()
    report = Report(total=len(cases))
    try:
        await executor.start()
        assert executor.isolation is not None
        report.tier = executor.isolation.tier
        family = Family(bait.victim.pid)
        await family.settle()  # what the probe left may be on its way out
        for number, case in enumerate(cases, 1):
            problems, results = await _run_case(case, executor, bait, family, secret, config)
            report.statuses[results[-1].status if results else "none"] += 1
            if problems:
                report.escaped[case.name] = problems
            if say:
                print(f"{number}/{len(cases)} {case.name}: {results[-1].status}", *problems, sep="  ", flush=True)
    finally:
        await executor.shutdown()
        bait.close()
        del os.environ["CONTAINMENT_CANARY"]
    return report


class Family:
    """The processes below this one that ought to be there: the fork server, what wraps it, and the bait."""

    def __init__(self, *others: int) -> None:
        self._known = set(others)
        self.expected: set[int] = set()

    async def settle(self) -> None:
        """Expect what is there, once nothing has come or gone for a moment."""
        deadline = time.monotonic() + SETTLE_S
        quiet_since = time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - quiet_since < SETTLE_S / 6:
            members = {pid for pid in self._members() if _runs(pid)}
            if members != self.expected:
                self.expected, quiet_since = members, time.monotonic()
            await asyncio.sleep(0.05)

    def _members(self) -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)} - self._known

    async def strays(self) -> set[int]:
        """Processes too many, after a moment for those that are on their way out."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            strays = {pid for pid in self._members() - self.expected if _runs(pid)}
            if not strays or time.monotonic() > deadline:
                return strays
            await asyncio.sleep(0.02)

    def dead(self) -> set[int]:
        return {pid for pid in self.expected if not _runs(pid)}


def _runs(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


async def _run_case(
    case: Case, executor: CodeExecutor, bait: Bait, family: Family, secret: str, config: ExecutorConfig
) -> tuple[list[str], list[CodeResult]]:
    problems: list[str] = []
    results: list[CodeResult] = []
    session = await executor.open()
    assert executor.fork_server is not None
    tokens = bait.tokens(executor.fork_server.pid)
    for block in case.blocks:
        code = re.sub(r"@@(\w+)@@", lambda match: tokens[match.group(1)], block)
        began = time.monotonic()
        results.append(await executor.run(session, code))
        if time.monotonic() - began > config.timeout_s + GRACE_S + SLACK_S:
            problems.append(f"took {time.monotonic() - began:.1f} s")
    await executor.close(session)
    last = results[-1]
    everything = "\n".join(result.text for result in results)
    if last.status not in case.statuses:
        problems.append(f"status {last.status}, not {' or '.join(sorted(case.statuses))}: {last.text[-200:]!r}")
    if case.output_re is not None and not re.search(case.output_re, last.text):
        problems.append(f"output lacks {case.output_re!r}: {last.text[-200:]!r}")
    if case.not_output_re is not None and re.search(case.not_output_re, everything, re.MULTILINE):
        problems.append(f"output has {case.not_output_re!r}: {everything[-200:]!r}")
    for value in (secret, bait.secret):
        if value in everything:
            problems.append("a secret was printed")
    if max(len(result.text) for result in results) > config.max_output_chars * 2 + 1000:
        problems.append("output above its limit")
    problems += bait.touched()
    server = executor.fork_server
    if server is None or not server.alive or family.dead():
        alive = server is not None and server.alive
        problems.append(f"gone, though the fork server lives: {sorted(family.dead())}" if alive else "the fork server died")
        await family.settle()
    fresh = await executor.open()
    check = await executor.run(fresh, FRESH)
    await executor.close(fresh)
    if check.text != FRESH_TEXT:
        problems.append(f"a fresh session is not clean: {check.text!r}")
    strays = await family.strays()
    if strays:
        problems.append(f"stray processes: {sorted(strays)}")
    return problems, results


def explain(report: Report) -> Iterator[str]:
    yield f"isolation: {report.tier}"
    yield "last blocks: " + ", ".join(f"{status} {number}" for status, number in report.statuses.most_common())
    for name, problems in report.escaped.items():
        for problem in problems:
            yield f"not contained: {name}: {problem}"
    if report.tier is Tier.STANDARD and set(report.escaped) == {"stat_probe"}:
        yield "stat_probe is what this tier leaves open: without namespaces the existence of a path can be asked for"


def main(file: str, tier: str, namespaces: bool, quiet: bool) -> int:
    """The command line's work; status 1 if anything was not contained, 2 for bad input."""
    try:
        cases = read_cases(Path(file))
        config = LIMITS.model_copy(update={"lowest_tier": Tier(tier), "namespaces": namespaces})
        report = asyncio.run(run_cases(cases, config, say=not quiet))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in explain(report):
        print(line)
    print(json.dumps(report.row()))
    allowed = {"stat_probe"} if report.tier is Tier.STANDARD else set()
    return 1 if set(report.escaped) - allowed else 0
