"""The probe notices each layer that is off, and the executor refuses what is too little."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from actors.code_executor import CodeExecutor, CodeStatus, ExecutorConfig, Tier
from actors.code_executor.isolation import Isolation, judge, tier_of
from actors.code_executor.libraries import closed_to_others

LAYERS = ("limits", "capabilities", "no_new_privs", "landlock", "seccomp")


def found(*skip: str, **settings: object) -> Isolation:
    async def run() -> Isolation:
        config = ExecutorConfig(lowest_tier=Tier.NONE, libraries=("mpmath",), preload=("mpmath",), **settings)  # type: ignore[arg-type]
        executor = CodeExecutor(config, skip=skip)
        try:
            await executor.start()
            session = await executor.open()
            result = await executor.run(session, "print(6 * 7)")
            assert (result.status, result.text) == (CodeStatus.OK, "42")
            assert executor.isolation is not None
            assert result.tier is executor.isolation.tier
            return executor.isolation
        finally:
            await executor.shutdown()

    return asyncio.run(run())


def test_here_all_layers_are_on_and_every_attack_fails() -> None:
    isolation = found()
    assert isolation.tier in (Tier.FULL, Tier.STANDARD)
    assert isolation.failed == ()
    assert all(isolation.layers[name] for name in LAYERS)


@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("layer", ["landlock", "seccomp", "limits", "no_new_privs"])
def test_a_layer_that_is_off_is_noticed(layer: str, namespaces: bool) -> None:
    isolation = found(layer, namespaces=namespaces)
    assert not isolation.layers[layer]
    assert isolation.tier.strength < Tier.STANDARD.strength
    if layer == "seccomp" and os.geteuid() != 0:
        assert isolation.tier is Tier.WEAK


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no capabilities to drop")
def test_capabilities_and_user_that_are_kept_are_noticed() -> None:
    assert not found("capabilities", "uid").layers["capabilities"]
    assert not found("uid").layers["uid"]


def test_what_other_users_may_not_read_is_found_before_a_server_is_started(tmp_path: Path) -> None:
    package = tmp_path / "mine" / "package"
    package.mkdir(parents=True)
    for folder in (*tmp_path.parents, tmp_path, package):
        if folder.owner() == tmp_path.owner() and folder != Path("/"):
            folder.chmod(0o755)
    assert closed_to_others([str(package), str(tmp_path / "nowhere")]) is None
    package.parent.chmod(0o700)
    assert closed_to_others([str(package)]) == str(package.parent)


def test_no_namespaces_are_noticed() -> None:
    isolation = found(namespaces=False)
    assert isolation.tier is Tier.STANDARD
    assert not isolation.layers["namespaces"]


def test_an_attack_that_gets_through_outweighs_what_is_reported() -> None:
    applied = dict.fromkeys((*LAYERS, "uid"), True)
    contained = {f"{name}: x": True for name in LAYERS}
    outside = {"files": False, "network": False}
    assert judge(applied, contained, outside).tier is Tier.FULL
    isolation = judge(applied, contained | {"seccomp: fork": False}, outside)
    assert (isolation.tier, isolation.failed) == (Tier.WEAK, ("seccomp: fork",))
    assert judge(applied, contained, outside | {"network": True}).tier is Tier.STANDARD


@pytest.mark.parametrize(
    ("off", "tier"),
    [
        ((), Tier.FULL),
        (("namespaces",), Tier.STANDARD),
        (("landlock",), Tier.REDUCED),
        (("landlock", "namespaces"), Tier.REDUCED),
        (("landlock", "namespaces", "uid"), Tier.WEAK),
        (("limits",), Tier.WEAK),
        (("seccomp",), Tier.WEAK),
        ((*LAYERS, "uid", "namespaces"), Tier.NONE),
    ],
)
def test_tiers(off: tuple[str, ...], tier: Tier) -> None:
    assert tier_of({name: name not in off for name in (*LAYERS, "uid", "namespaces")}) is tier


def test_too_little_is_refused_with_reason_and_remedy() -> None:
    executor = CodeExecutor(ExecutorConfig(libraries=("mpmath",), preload=()), skip=("landlock",))
    with pytest.raises(ValueError, match=r"executor\.lowest_tier = 'standard': this machine gives .*without .*landlock") as refusal:
        asyncio.run(executor.open())
    assert "accept it with executor.lowest_tier = " in str(refusal.value)


def test_a_library_that_is_not_there_is_named() -> None:
    executor = CodeExecutor(ExecutorConfig(libraries=("no-such-library",)))
    with pytest.raises(ValueError, match=r"executor\.libraries: 'no-such-library' is not installed"):
        asyncio.run(executor.open())
