"""The log of a training that was killed while it wrote a line."""

from __future__ import annotations

import json
from pathlib import Path

from actors.storage import Folder
from workflows.training import LOG, cut_unfinished_line, read_log


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2)]
    file = tmp_path / LOG
    file.write_text(lines[0] + '{"step": 2, "lo')
    assert [row["step"] for row in read_log(Folder(str(tmp_path)))] == [1]
    cut_unfinished_line(file)
    with file.open("a") as stream:
        stream.write(lines[1])
    assert [row["step"] for row in read_log(Folder(str(tmp_path)))] == [1, 2]
    cut_unfinished_line(file)
    assert file.read_text() == "".join(lines)
    cut_unfinished_line(tmp_path / "nothing")
