"""Large CSV files by ranges of rows, against the csv module reading them whole."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillnet_cli.api import UserError
from skillnet_cli.sources.archives import FileTree
from skillnet_cli.sources.members import Member
from skillnet_cli.sources.rows import Row
from skillnet_cli.sources.tables import CsvFile


def csv_of(content: bytes) -> CsvFile:
    return CsvFile(Member("table.csv", len(content), lambda: io.BytesIO(content)))


def rows_of(table: CsvFile, step: int) -> list[Row]:
    return [row for each in table.ranges(step) for row in table.read(*each)]


def table(rows: list[list[str]], encoding: str = "utf-8", end: str = "\n") -> bytes:
    file = io.StringIO()
    # Before Python 3.13 the writer leaves a lone carriage return unquoted, and the reader ends the row there.
    quoting = csv.QUOTE_ALL if any("\r" in cell for row in rows for cell in row) else csv.QUOTE_MINIMAL
    csv.writer(file, lineterminator=end, quoting=quoting).writerows([["url", "caption"], *rows])
    return file.getvalue().encode(encoding)


CELL = st.text(st.sampled_from('ab,"\n 你\r'), max_size=6)


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(st.text("xyz", min_size=1), CELL).map(list), max_size=12),
    step=st.integers(1, 5),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_ranges_together_are_the_table(rows: list[list[str]], step: int, encoding: str, end: str) -> None:
    content = table(rows, encoding, end)
    expected = list(csv.reader(io.StringIO(content.decode(encoding), newline="")))[1:]
    found = rows_of(csv_of(content), step)
    assert [row.number for row in found] == list(range(1, len(rows) + 1))
    if encoding != "gb18030" or content.isascii() or all("你" in "".join(row) for row in rows):
        assert [list(row.cells.values()) for row in found] == expected


def test_every_range_but_the_last_has_as_many_rows() -> None:
    ranges = csv_of(table([["u", str(number)] for number in range(25)])).ranges(10)
    assert [(first, rows) for _, first, rows in ranges] == [(1, 10), (11, 10), (21, 5)]
    assert csv_of(table([])).ranges(10) == [] == csv_of(b"").ranges(10)


def test_a_quote_that_is_never_closed_damages_one_row() -> None:
    content = table([["1", "a"]]) + b'2,"never closed\n3,c\n\n4,"d\ne"\n' + table([["5", "x" * 100]] * 900)[12:]
    rows = rows_of(csv_of(content), 500)
    assert rows[1].damage == "row 2 has a quote that is never closed"
    assert [row.cells.get("url") for row in rows[:5]] == ["1", None, "3", "4", "5"]
    assert rows[3].cells["caption"] == "d\ne" and len(rows) == 4 + 900


def test_rows_with_other_cells_or_bytes_are_damaged() -> None:
    table = csv_of("url,caption\nx\na,b,c\n好,一些中文文字写在这里，再多写几个字\n".encode() + b"a\xff,b\n")
    damage = [row.damage for row in rows_of(table, 100)]
    assert damage == ["row 1 has 1 cells, the header has 2", "row 2 has 3 cells, the header has 2", None,
                      "row 4 is not text in UTF-8"]  # fmt: skip


def test_a_missing_column_is_named() -> None:
    with pytest.raises(UserError, match=r"table.csv: it has no column 'name', only url, caption"):
        csv_of(table([])).check_columns(["url", "name"])
    with pytest.raises(UserError, match="its header is not text"):
        csv_of(b"\xff\xffurl\n").check_columns(["url"])


def test_files_in_folders_and_zips_are_read_from_the_middle(tmp_path: Path) -> None:
    content = table([[f"u{number}", f"标题 {number}"] for number in range(500)])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "t.csv").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.csv", content)
    for source in (tmp_path / "folder", tmp_path / "t.zip"):
        found = CsvFile(FileTree([source], tmp_path).one("t.csv"))
        assert [row.cells["url"] for row in found.read(*found.ranges(100)[3])] == [f"u{n}" for n in range(300, 400)]
