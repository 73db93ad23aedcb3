"""What of a section decides a result."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from genprm.section import IdentifiedBy, Placement, Section


def size(text: str) -> int:
    if text == "bad":
        raise ValueError("there is no such file")
    return len(text)


class Inner(Section):
    LIBRARIES: ClassVar[tuple[str, ...]] = ("vllm",)

    temperature: float = 0.7
    num_workers: Placement[int] = 1


class Outer(Section):
    LIBRARIES: ClassVar[tuple[str, ...]] = ("torch",)

    inner: Inner = Inner()
    named: dict[str, Inner] = Field(default={"a": Inner(temperature=1.0)})
    path: Annotated[str | None, IdentifiedBy(size)] = None
    address: Placement[str | None] = None


def test_every_field_counts_that_is_not_placement() -> None:
    assert Outer().identity() == {"inner": {"temperature": 0.7}, "named": {"a": {"temperature": 1.0}}, "path": None}
    moved = Outer(inner=Inner(num_workers=8), address="http://host")
    assert moved.identity() == Outer().identity()


def test_what_a_path_stands_for_counts_and_not_the_path() -> None:
    assert Outer(path="abc").identity()["path"] == 3
    assert Outer(path="abc").identity() == Outer(path="xyz").identity()
    with pytest.raises(ValueError, match="path = 'bad': there is no such file"):
        Outer(path="bad").identity()


def test_libraries_are_those_of_all_sections_inside() -> None:
    assert Outer().deciding_libraries() == {"torch", "vllm"}
