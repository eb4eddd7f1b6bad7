"""Sources of other kinds: addresses in tables, data sets as hubs and the web publish them, dumps of Wikipedia."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from PIL import Image

from skillnet_cli.cli.app import run
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet


def test_f04_an_address_in_a_table_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing may be asked for")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "here.png")
    addresses = ["https://example.org/a//b.jpg", " HTTP://example.org/c.jpg", "s3://bucket/d.jpg", "file:///e.jpg"]
    rows = ["image,text", "here.png,红色", *(f"{each},图" for each in addresses)]
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    command = ["prepare", "table", str(tmp_path / "t.csv"), "--task", "t2i", "--shares", "train=1"]
    assert run([*command, "--out", str(tmp_path / "set")]) == 0
    assert "4 of 5 files are addresses" in capsys.readouterr().err
    ledger = {row.id: (row.why, row.reason) for row in read_ledger(tmp_path / "set")}
    assert ledger.pop("here.png")[0] == "kept" and set(ledger) == {*addresses}
    for why, reason in ledger.values():
        assert why == "unavailable" and reason.startswith("it is an address") and "fetch them first" in reason
    assert len(list(PreparedSet.open(tmp_path / "set").split("train"))) == 1
