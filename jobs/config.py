"""From a TOML file and ``--set`` to the configuration tree (`workflows.config`), with errors that name the setting and the remedy."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from actors.engine.config import VllmEngineConfig
from actors.storage import Folder
from genprm.errors import UserError
from genprm.section import Section
from workflows.config import SHARED, Config, assemble, laid_over
from workflows.models import check_model
from workflows.stage.links import source

UNION_TAGS = ("vllm", "http", "scripted", "paper", "thrifty")


def load(path: str, changes: Sequence[str], run: Folder) -> Config:
    """The configuration of a TOML file with ``section.key=value`` changes; ValueError names what is wrong and the remedy.

    ``{run}`` in a model's path stands for the run directory, or for the run from which the model's training stage is read.
    """
    raw = read_tree(path, changes)
    tree = _fill_run(assemble(raw), raw.get("reuse"), run)
    try:
        config = checked(Config, tree)
    except ValueError as error:
        raise UserError(_as_written(str(error), raw)) from error
    engines = {f"engines.{role}": getattr(config.engines, role) for role in type(config.engines).model_fields}
    engines |= {f"verifiers.{name}.engine": verifier.engine for name, verifier in config.verifiers.items()}
    for setting, engine in engines.items():
        if isinstance(engine, VllmEngineConfig):
            check_model(f"{setting}.model", engine.model, run)
    for name, model in config.models.items():
        check_model(f"models.{name}.base_model", model.base_model, run)
    return config


def _fill_run(tree: Any, reuse: Any, run: Folder) -> Any:
    """``{run}`` in every text of the tree replaced."""
    if isinstance(tree, dict):
        return {name: _fill_run(value, reuse, run) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_fill_run(value, reuse, run) for value in tree]
    if not isinstance(tree, str) or "{run}" not in tree:
        return tree
    if found := re.match(r"\{run\}/(train/[^/]+)/", tree):
        stage = found[1]
        if isinstance(reuse, dict) and stage in reuse:
            folder = source(str(reuse[stage]), stage, f"reuse.{stage}")
            return tree.replace(f"{{run}}/{stage}", folder.uri)
    return tree.replace("{run}", run.uri)


def _as_written(message: str, raw: Mapping[str, Any]) -> str:
    """A message about a setting of a named table, with the name of the shared section if the setting was written there."""

    def shared(match: re.Match[str]) -> str:
        for section, tables in SHARED.items():
            own = raw.get(tables, {})
            table = own.get(match[2], {}) if isinstance(own, dict) else {}
            written = raw.get(section, {})
            if (
                match[1] == tables
                and isinstance(table, dict)
                and match[3] not in table
                and isinstance(written, dict)
                and match[3] in written
            ):
                return f"{section}.{match[3]}"
        return match[0]

    return re.sub(rf"\b({'|'.join(SHARED.values())})\.([A-Za-z0-9][\w-]*)\.(\w+)", shared, message)


def read_tree(path: str, changes: Sequence[str]) -> dict[str, Any]:
    """A TOML file, on top of the one beside it that its ``extends`` names, with ``section.key=value`` changes applied."""
    tree = _read_toml(path)
    seen = {Path(path).resolve()}
    file = Path(path)
    while "extends" in tree:
        file = file.parent / str(tree.pop("extends"))
        if file.resolve() in seen:
            raise UserError(f"extends = {str(file)!r} in {path}: files extend one another in a circle")
        seen.add(file.resolve())
        tree = laid_over(_read_toml(str(file)), tree)
    for change in changes:
        _apply(tree, change)
    return tree


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"--config = {path!r}: there is no such file; the presets are in jobs/presets") from error
    except OSError as error:
        raise UserError(f"--config = {path!r}: can't be read ({error}); change its permissions") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--config = {path!r}: not TOML: {error}") from error


AnySection = TypeVar("AnySection", bound=Section)


def checked(section: type[AnySection], tree: Mapping[str, Any]) -> AnySection:
    """The section a tree describes; types are taken strictly (``"7"`` is no number, ``true`` no count), as JSON has them."""
    try:
        return section.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        raise UserError(_explain(error)) from error


def _apply(tree: dict[str, Any], change: str) -> None:
    name, separator, text = change.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise UserError(f"--set {change!r}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {change!r}: {key!r} is a setting, not a section")
        node = child
    node[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    """One line for each wrong setting: its path, its value, what is wrong."""
    lines = []
    for item in error.errors():
        loc = item["loc"]
        names = [str(part) for before, part in zip((None, *loc), loc, strict=False) if part not in UNION_TAGS or before == "estimates"]
        path = ".".join(names)
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: there is no such setting; `--dry-run` prints all there are")
        elif item["type"] == "missing":
            lines.append(f"{path}: must be set; see jobs/presets for examples")
        elif not path:  # of the tree as a whole: a name that is not there
            lines.append(item["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{path} = {item['input']!r}: {item['msg']}")
    return "; ".join(lines)


def resolved(config: Section) -> str:
    """The whole tree, defaults filled in, as JSON."""
    return json.dumps(config.model_dump(mode="json"), indent=2)
