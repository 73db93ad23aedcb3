"""Which isolation is in force, found out by attacking it from a session at the start."""

from __future__ import annotations

import json
import os
import platform
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from actors.code_executor.config import ExecutorConfig, Tier
from actors.code_executor.inside.scratch import own_folder, remove_tree
from actors.code_executor.inside.syscalls import TABLES
from actors.code_executor.libraries import closed_to_others, interpreter, packages
from actors.code_executor.server import Canaries, ForkServer, ServerDied, Surroundings
from actors.code_executor.session_process import Ending
from genprm.errors import UserError

ATTACKS = Path(__file__).with_name("attacks.py")
PROBE_S = 30.0
PROBE_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """The tier, the layers behind it (``applied``: as sessions report them, which all must do alike), and why it is no better."""

    tier: Tier
    layers: dict[str, bool]
    applied: dict[str, bool]
    failed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        on = [name for name, is_on in self.layers.items() if is_on]
        text = f"{self.tier} isolation ({', '.join(on) or 'no layer'})"
        missing = [name for name, is_on in self.layers.items() if not is_on]
        reasons = [f"without {', '.join(missing)}"] if missing else []
        reasons += [f"not contained: {', '.join(self.failed)}"] if self.failed else []
        return "; ".join([text, *reasons, *self.notes])


@contextmanager
def bait(parent: str) -> Iterator[Canaries]:
    """Files, a process and listeners for the attacks to fail at."""
    folder = own_folder(parent)
    try:
        os.chmod(folder, 0o755)
        for name in ("hidden", "shown"):
            Path(folder, name).mkdir(mode=0o755)
            Path(folder, name, "file").write_text(secrets.token_hex())
            Path(folder, name, "file").chmod(0o644)
        with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
            tcp.bind(("127.0.0.1", 0))
            tcp.listen()
            abstract = f"genprm-{secrets.token_hex(8)}"
            unix.bind("\0" + abstract)
            unix.listen()
            yield Canaries(
                hidden_file=f"{folder}/hidden/file",
                shown_folder=f"{folder}/shown",
                pid=os.getpid(),
                port=tcp.getsockname()[1],
                abstract=abstract,
            )
    finally:
        remove_tree(folder)


class Unusable(RuntimeError):
    """Ordinary code can't work in these surroundings."""


async def probe(server: ForkServer, config: ExecutorConfig, canaries: Canaries) -> Isolation:
    """Attack from inside a session; Unusable if ordinary code can't work there (its libraries can't be read, say)."""
    session = await server.spawn()
    try:
        if not await session.ready():
            raise Unusable("a session does not start")
        facts = {
            "numbers": TABLES[platform.machine()],
            "libraries": [name for name in config.libraries if name in ("numpy", "sympy", "scipy", "mpmath")],
            "shown_file": f"{canaries.shown_folder}/file",
            "shown_folder": canaries.shown_folder,
            "hidden_file": canaries.hidden_file,
            "memory_bytes": config.memory_mib << 20,
            "uid": session.uid,
        }
        code = ATTACKS.read_text().replace('"@BAIT@"', repr(json.dumps(facts)))
        result = await session.run(code, soft_s=PROBE_S, keep_bytes=PROBE_BYTES, limit_bytes=PROBE_BYTES)
    finally:
        session.close()
    try:
        found = json.loads(result.output)
    except ValueError:
        found = None
    if result.ending is not Ending.OK or not isinstance(found, dict):
        raise Unusable(f"the probe ended with {result.ending} {result.error_type} {result.message}".strip())
    broken = [name for name, works in found["ordinary"].items() if not works]
    if broken:
        raise Unusable(f"no use of {' or '.join(broken)} there")
    return judge(session.layers, found["contained"], server.hello["outside"])


def judge(applied: dict[str, bool], contained: dict[str, bool], outside: dict[str, bool]) -> Isolation:
    """A layer is on if it says so and every attack on it failed."""
    contained = contained | {f"namespaces: {name}": not seen for name, seen in outside.items()}
    layers = {}
    failed = []
    for name in (*applied, "namespaces"):
        attacks = {attack: held for attack, held in contained.items() if attack.startswith(f"{name}:")}
        layers[name] = applied.get(name, True) and all(attacks.values())
        if applied.get(name, False):
            failed += [attack for attack, held in attacks.items() if not held]
    return Isolation(tier=tier_of(layers), layers=layers, applied=applied, failed=tuple(failed))


def tier_of(layers: dict[str, bool]) -> Tier:
    """full: all; standard: all but namespaces; reduced: files are kept by namespaces or a user id alone; weak: less; none."""
    base = all(layers.get(name, False) for name in ("limits", "capabilities", "no_new_privs"))
    filtered, files, walled = (layers.get(name, False) for name in ("seccomp", "landlock", "namespaces"))
    if base and filtered and files:
        return Tier.FULL if walled else Tier.STANDARD
    if base and filtered and (walled or layers.get("uid", False)):
        return Tier.REDUCED
    return Tier.WEAK if filtered or files or walled else Tier.NONE


async def choose(config: ExecutorConfig, skip: tuple[str, ...] = ()) -> tuple[ForkServer, Isolation, Canaries]:
    """Start a fork server in the best surroundings that work here.

    ServerDied if none can be started; ValueError if what can is below ``executor.lowest_tier``.
    """
    if platform.system() != "Linux" or platform.machine() not in TABLES:
        raise UserError(f"the code executor runs on Linux on x86-64 and aarch64, this is {platform.system()} on {platform.machine()}")
    notes: list[str] = []
    candidates = [
        Surroundings(namespaces=namespaces, private_uids=uids, skip=skip) for namespaces in (True, False) for uids in (True, False)
    ]
    with bait(config.scratch_dir or tempfile.gettempdir()) as canaries:
        for surroundings in candidates:
            if surroundings.private_uids and os.geteuid() != 0:
                continue
            if surroundings.namespaces and not (config.namespaces and "namespaces" not in skip):
                continue
            if surroundings.private_uids and not surroundings.namespaces:
                python = interpreter()
                closed = closed_to_others([python.executable, *python.readable, *packages(config.libraries).values()])
                if closed:
                    notes.append(f"with {surroundings}: other users may not read {closed}")
                    continue
            try:
                server = await ForkServer.start(config, surroundings, canaries)
            except ServerDied as error:
                notes.append(f"with {surroundings}: {error}")
                continue
            try:
                isolation = replace(await probe(server, config, canaries), notes=tuple(notes))
            except (Unusable, ServerDied, OSError) as error:
                notes.append(f"with {surroundings}: {error}")
                await server.close()
                continue
            if isolation.tier.strength < config.lowest_tier.strength:
                await server.close()
                raise UserError(
                    f"executor.lowest_tier = {config.lowest_tier.value!r}: this machine gives {isolation}; run executors where more is "
                    f"possible (docs/sandbox.md), or accept it with executor.lowest_tier = {isolation.tier.value!r}"
                )
            return server, isolation, canaries
    raise ServerDied("; ".join(notes) or "no fork server could be started")
