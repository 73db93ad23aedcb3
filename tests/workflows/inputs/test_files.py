import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workflows.inputs.files import write_lines
from workflows.inputs import formats
from workflows.inputs.files import data_fingerprint, read_rows
from workflows.inputs.formats import BrokenRow

ROWS: list[dict[str, Any]] = [{"problem": "P", "answer": "1"}, {"problem": "Q\nq", "answer": "2"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def rows(path: Path | str) -> list[Any]:
    return [value for _, value in read_rows(str(path), "problems.path")]


def places(path: Path | str) -> list[str]:
    return [place for place, _ in read_rows(str(path), "problems.path")]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", lambda data: pa.compress(data, "zstd", asbytes=True))],
)
def test_compressed_files_are_read_by_their_contents(tmp_path: Path, suffix: str, compress: Any) -> None:
    for name in (f"p.jsonl.{suffix}", "named_otherwise.jsonl"):
        (tmp_path / name).write_bytes(compress(LINES) + compress(b"\n" + LINES))  # two members, as appending makes them
        assert rows(tmp_path / name) == ROWS + ROWS
    (tmp_path / "cut.jsonl").write_bytes(compress(LINES * 1000)[:-5])
    with pytest.raises(ValueError, match=r"problems\.path = .*cut\.jsonl': the file is damaged"):
        rows(tmp_path / "cut.jsonl")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.jsonl", LINES),
        ("lines.json", LINES),
        ("lines.ndjson", LINES),
        ("no_suffix", LINES),
        ("windows.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n")),
        ("blank.jsonl", b"\n \n" + LINES.replace(b"\n", b"\n\n")),
        ("list.json", json.dumps(ROWS).encode()),
        ("list.jsonl", json.dumps(ROWS, indent=1).encode()),
        ("one_line_list.jsonl", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        ("list_of_lines.jsonl", b"[\n" + b",\n".join(LINES.splitlines()) + b"\n]"),
        ("inside.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        ("inside_lines.json", json.dumps({"data": ROWS}, indent=2).encode()),
        ("inside.jsonl", json.dumps({"data": ROWS}).encode()),
        ("p.csv", b'problem,answer\nP,1\n"Q\nq",2\n'),
        ("p.csv", b'\xef\xbb\xbfproblem,answer\r\nP,1\r\n"Q\nq",2\r\n\r\n'),
        ("semicolons.csv", b'problem;answer\nP;1\n"Q\nq";2\n'),
        ("p.tsv", b'problem\tanswer\nP\t1\n"Q\nq"\t2\n'),
    ],
)
def test_text_formats(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert rows(tmp_path / name) == ROWS


def test_a_single_row_is_a_row_whatever_lists_it_has(tmp_path: Path) -> None:
    chat = {"prompt": [{"role": "user", "content": "1+1?"}], "reward_model": {"ground_truth": "2"}}
    for name in ("p.jsonl", "p.json"):
        assert rows(write_lines(tmp_path / name, [chat])) == [chat]
        assert rows(write_lines(tmp_path / name, [json.dumps(chat, indent=1)])) == [chat]
    steps = {"problem": "P", "steps": ["a"], "label": 0}
    assert rows(write_lines(tmp_path / "p.json", [steps])) == [steps]


def test_an_object_with_several_lists_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"several lists of rows \('train', 'test'\)"):
        rows(write_lines(tmp_path / "p.json", [{"train": ROWS, "test": ROWS}]))


def test_parquet_is_read_by_batches(tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS * 1500), file, row_group_size=100)
    assert rows(file) == ROWS * 1500
    assert places(file)[-1] == "row 3000"
    (tmp_path / "q.parquet.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert len(rows(tmp_path / "q.parquet.gz")) == 3000
    (tmp_path / "r.jsonl").write_bytes(file.read_bytes())
    assert len(rows(tmp_path / "r.jsonl")) == 3000
    for content in (b"PAR1", file.read_bytes()[:-100], b"no Parquet"):
        (tmp_path / "bad.parquet").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.parquet': the file is damaged"):
            rows(tmp_path / "bad.parquet")


def test_a_parquet_row_that_is_no_text_is_rejected_alone(tmp_path: Path) -> None:
    array = pa.StringArray.from_buffers(3, pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])), pa.py_buffer(b"a\xffb"))
    pq.write_table(pa.table({"problem": array}), tmp_path / "p.parquet")
    first, second, third = rows(tmp_path / "p.parquet")
    assert (first, third) == ({"problem": "a"}, {"problem": "b"})
    assert isinstance(second, BrokenRow)


def test_broken_lines_are_values_with_their_reason(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(
        b'{"a": 1}\n{broken\n{"a": "\xe9"}\n' + b"[" * 100_000 + b"\n" + b'{"a": ' + b"9" * 5000 + b"}\n" + b'{"a": NaN, "b": -Infinity}\n'
    )
    found = rows(tmp_path / "p.jsonl")
    assert [str(value) if isinstance(value, ValueError) else value for value in found] == [
        {"a": 1}, "not JSON", "not UTF-8", "not JSON", "not JSON", {"a": None, "b": None},
    ]  # fmt: skip
    assert places(tmp_path / "p.jsonl") == [f"line {number}" for number in range(1, 7)]


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LONGEST_LINE_BYTES", 1000)
    long = '{"problem": "' + "x" * 5000 + '"}'
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(b"\n".join([LINES.splitlines()[0], long.encode(), LINES.splitlines()[0]])))
    assert [str(value) if isinstance(value, ValueError) else value for value in rows(tmp_path / "p.jsonl.gz")] == [
        ROWS[0], "line too long", ROWS[0],
    ]  # fmt: skip
    monkeypatch.setattr(formats, "LARGEST_WHOLE_BYTES", 10)
    with pytest.raises(ValueError, match="must be loaded whole"):
        rows(write_lines(tmp_path / "p.json", ["[", '{"a": 1}', "]"]))


def test_json_that_is_none_is_an_error_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"p\.json': not JSON \(.*line 3.*give one list of rows, or a row on each line"):
        rows(write_lines(tmp_path / "p.json", ["[", '{"a": 1},', "oops"]))
    with pytest.raises(ValueError, match="neither a list of rows nor an object"):
        rows(write_lines(tmp_path / "p.json", ["7"]))


def test_csv_rows_that_do_not_fit_the_header(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"problem,answer,note\nP,1,\n\nQ,2\nR,3,x,y\nS\xe9,4,x\n")
    found = rows(tmp_path / "p.csv")
    assert found[0] == {"problem": "P", "answer": "1", "note": None}
    assert [str(value) for value in found[1:3]] == ["not as many cells as the header"] * 2
    assert found[3]["problem"] == "S\udce9"
    (tmp_path / "p.csv").write_bytes(b"problem,problem\nP,1\n")
    with pytest.raises(ValueError, match="header has 'problem' twice"):
        rows(tmp_path / "p.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / name).write_bytes(LINES.decode().encode(encoding))
    with pytest.raises(ValueError, match=rf"problems\.path = .*encoding .*{encoding[:6].upper()}.*convert it to UTF-8"):
        rows(tmp_path / name)


def test_archives_are_named(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(ValueError, match="this is a zip archive; extract it"):
        rows(tmp_path / "p.jsonl")


def test_folders_and_patterns_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_lines(tmp_path / "b" / "2.jsonl", [{"n": 2}])
    write_lines(tmp_path / "a.json", [{"n": 1}])
    write_lines(tmp_path / ".hidden.jsonl", [{"n": 9}])
    write_lines(tmp_path / "dataset_info.json", [{"n": 9}])
    (tmp_path / "README.md").write_text("no data")
    assert rows(tmp_path) == [{"n": 1}, {"n": 2}]
    assert places(tmp_path) == ["a.json, row 1", "b/2.jsonl, row 1"]
    assert rows(tmp_path / "**" / "*.json*") == [{"n": 1}, {"n": 2}, {"n": 9}]
    assert rows(tmp_path / "b" / "*.jsonl") == [{"n": 2}]
    write_lines(tmp_path / "odd[1].jsonl", [{"n": 3}])
    assert rows(tmp_path / "odd[1].jsonl") == [{"n": 3}]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"problems\.path = 'nowhere\.jsonl': there is no such file"):
        rows("nowhere.jsonl")
    with pytest.raises(ValueError, match="no file matches"):
        rows(tmp_path / "*.jsonl")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"no file in this folder is .*there are: notes\.txt"):
        rows(tmp_path)


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", [{"n": 1}])
    fingerprint = data_fingerprint(one)
    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved" / "other.jsonl"
    Path(one).rename(moved)
    assert data_fingerprint(str(moved)) == data_fingerprint(str(tmp_path / "moved")) == fingerprint
    assert len(fingerprint) == 32
    write_lines(tmp_path / "moved" / "p.jsonl", [{"n": 2}])
    both = data_fingerprint(str(tmp_path / "moved"))
    assert both != fingerprint
    write_lines(tmp_path / "moved" / "p.jsonl", [{"n": 3}])
    assert data_fingerprint(str(tmp_path / "moved")) != both
    with pytest.raises(ValueError, match="there is no such file"):
        data_fingerprint(one)
