"""The preparation engine: the same bytes whatever the processes, shares and kills, and those of a plain model."""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.data.format import Manifest, read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.data.verify import verify
from skillnet_cli.plugins import resolve
from skillnet_cli.prepare.merge import merge
from skillnet_cli.prepare.preparer import Preparation, Share, Tolerance, divide
from skillnet_cli.prepare.run import run
from skillnet_cli.prepare.workdir import WorkFolder
from tests.kills import killed_and_resumed
from tests.prepare.preparers import PAPER, dataset, job
from tests.sources.test_archives import tar_of

ANY = Tolerance(damaged=None)


def script_of(folder: Path, ranges: list[Any]) -> Path:
    path = folder / "script.json"
    path.write_text(json.dumps(ranges))
    return path


def script(ranges: int = 12, items: int = 20, seed: int = 5) -> list[list[Any]]:
    """Items with planted copies, bad items, rejections and a range that breaks off."""
    draw = random.Random(seed)
    made: list[list[Any]] = []
    for place in range(ranges):
        rows: list[Any] = []
        for number in range(items):
            split = draw.choice(["train", "train", "pool", "other"])
            id = draw.choice(
                [f"{place}.{number}", f"{place}.{number}", f"bad{place}{number}", f"twice{draw.randrange(40)}"]
            )
            content = draw.choice([None, None, f"content {draw.randrange(150)}"])
            rows.append(
                [split, id, draw.choice(["filtered", "damaged", "unavailable"]), "because"]
                if draw.random() < 0.2
                else [split, id, content]
            )
        made.append(rows)
    made[3].append("the file breaks off")
    made.append([])
    return made


def prepare(kind: str, work: Preparation) -> None:
    run(resolve(f"tests.prepare.preparers:{kind}"), work)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return script_of(tmp_path, script())


@pytest.fixture(params=["Scripted", "Independent"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def whole(source: Path, tmp_path: Path, kind: str) -> dict[str, bytes]:
    """The set that one process makes at one go."""
    prepare(kind, job(source, tmp_path / "whole", kind, tolerance=ANY))
    assert not (tmp_path / "whole" / ".work").exists()
    assert not list(verify(tmp_path / "whole"))
    return files(tmp_path / "whole")


def test_any_number_of_processes_makes_the_same_bytes(source: Path, tmp_path: Path, kind: str, whole: Any) -> None:
    prepare(kind, job(source, tmp_path / "three", kind, workers=3, tolerance=ANY))
    assert files(tmp_path / "three") == whole


@pytest.mark.parametrize("count", [1, 3])
def test_shares_and_a_merge_make_the_same_bytes(
    source: Path, tmp_path: Path, kind: str, whole: Any, count: int
) -> None:
    out = tmp_path / "shared"
    for number in sorted(range(1, count + 1), reverse=True):
        prepare(kind, job(source, out, kind, share=Share(number, count), tolerance=ANY))
        assert not (out / "manifest.json").exists()
    again = WorkFolder(out).recorded_job(Preparation(dataset(kind), (), out, tolerance=ANY))
    merge(resolve(f"tests.prepare.preparers:{kind}")(again), WorkFolder(out))
    assert files(out) == whole


def test_a_merge_names_what_is_missing(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    prepare("Scripted", job(source, out, share=Share(2, 3), tolerance=ANY))
    preparer = resolve("tests.prepare.preparers:Scripted")(job(source, out, tolerance=ANY))
    with pytest.raises(UserError, match=r"9 of 13 ranges are still to be read \(the first is range 0\)"):
        merge(preparer, WorkFolder(out))
    with pytest.raises(UserError, match="holds no parts to put together"):
        merge(preparer, WorkFolder(tmp_path / "nowhere"))


KILLED = "from tests.prepare.preparers import prepare; import sys; prepare(*sys.argv[1:])"


def check_kills(source: Path, folder: Path, kind: str, kills: int) -> None:
    prepare(kind, job(source, folder / "whole", kind))
    command = [sys.executable, "-c", KILLED, str(source), str(folder / "set"), kind, "2"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "SLOW": "0.004", "PATH": "/usr/bin:/bin"}
    killed_and_resumed(command, folder / "set", kills, longest=2, environment=environment)
    assert files(folder / "set") == files(folder / "whole")


def test_kills_leave_no_trace(tmp_path: Path, kind: str) -> None:
    clean = [[row for row in rows if row[2:3] != ["damaged"] and isinstance(row, list)] for rows in script()]
    check_kills(script_of(tmp_path, clean), tmp_path, kind, 2)


@pytest.mark.soak
def test_many_kills_leave_no_trace(tmp_path: Path, kind: str) -> None:
    clean = [[row for row in rows if row[2:3] != ["damaged"] and isinstance(row, list)] for rows in script(40)]
    check_kills(script_of(tmp_path, clean), tmp_path, kind, 20)


@pytest.mark.parametrize("kind", ["Scripted", "Independent"])
def test_a_removal_cut_off_harms_nothing(
    source: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set is whole, its parts are half deleted: a merge says so in a line, a preparation makes the same set."""

    def cut_off(folder: Path, **_: object) -> None:
        for name in ("kept.npy", "*.tar"):
            next(iter(sorted(folder.rglob(name))), folder / "nothing").unlink(missing_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skillnet_cli.prepare.workdir.shutil.rmtree", cut_off)
        with pytest.raises(KeyboardInterrupt):
            prepare(kind, job(source, tmp_path / "set", kind, tolerance=ANY))
    before = files(tmp_path / "set")
    with pytest.raises(UserError):
        WorkFolder(tmp_path / "set").read_plan()
    prepare(kind, job(source, tmp_path / "set", kind, tolerance=ANY))
    prepare(kind, job(source, tmp_path / "whole", kind, tolerance=ANY))
    assert files(tmp_path / "set") == files(tmp_path / "whole")
    assert {name: data for name, data in before.items() if ".work" not in name} == files(tmp_path / "whole")


def test_finished_ranges_are_not_read_again(source: Path, tmp_path: Path) -> None:
    prepare("Scripted", job(source, tmp_path / "set", share=Share(1, 2), tolerance=ANY))
    prepare("Scripted", job(source, tmp_path / "set", tolerance=ANY))
    reads = Counter((tmp_path / "reads").read_text().split())
    assert reads == {str(place): 1 for place in range(13)}


def plain_model(ranges: list[list[Any]], protocol_items: int, seed: int, limit: int | None) -> tuple[list[Any], dict]:
    """What the ledger and the splits should be, with everything in memory and no parts; without a limit's ranges."""
    rows = plain_rows(ranges)
    reject_plainly(rows)
    pool = [row for row in rows if row[2] == "kept" and row[0] == "pool"]
    if len(pool) >= protocol_items:
        order = np.random.default_rng([seed, *b"pool"]).permutation(len(pool))
        sizes = divide(len(pool), PAPER, rest="dev")
        for rank, place in enumerate(order):
            pool[place][0] = "test" if rank < sizes["test"] else "dev"
    else:
        for row in pool:
            row[0] = "test"
    splits: dict[str, list[str]] = {}
    for row in rows:
        if row[2] == "kept":
            splits.setdefault(row[0], []).append(row[1])
    return [row[:4] for row in rows], splits


def plain_rows(ranges: list[list[Any]]) -> list[list[Any]]:
    """Split, id, class, reason and content of every item."""
    rows: list[list[Any]] = []
    for place, items in enumerate(ranges):
        for item in items:
            if isinstance(item, str):
                rows.append(["", f"range {place}", "damaged", item, None])
            elif len(item) == 4:
                rows.append([*item, None])
            else:
                rows.append([*item[:2], "kept", "", item[2]])
    return rows


def reject_plainly(rows: list[list[Any]]) -> None:
    """Mark what is a duplicate by its id or its content, and what the preparer filters."""
    seen: set[Any] = set()
    for row in rows:
        if row[2] == "kept" and (row[0], row[1]) in seen:
            row[2:4] = ["duplicate", "another item has this id"]
        elif row[2] == "kept":
            seen.add((row[0], row[1]))
    first: dict[str, list[Any]] = {}
    for row in rows:
        if row[2] == "kept" and row[4] is not None and first.setdefault(row[4], row) is not row:
            row[2:4] = ["duplicate", f"the same content as '{first[row[4]][1]}'"]
    for row in rows:
        if row[2] == "kept" and row[1].startswith("bad"):
            row[2:4] = ["filtered", f"'{row[1]}' is bad"]


names = st.sampled_from(["train", "pool", "other"])
ids = st.one_of(st.sampled_from(["a", "b", "bad", "bad2"]), st.text("xyz词", min_size=1, max_size=6))
items = st.one_of(
    st.tuples(names, ids, st.one_of(st.none(), st.sampled_from(["1", "2", "3"]))),
    st.tuples(names, ids, st.sampled_from(["filtered", "duplicate", "unavailable", "damaged"]), st.text("r'1")),
)


@given(st.lists(st.lists(items, max_size=12), min_size=1, max_size=5), st.integers(0, 9))
def test_any_items_become_what_a_plain_model_makes_of_them(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[list[Any]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("model")
    ranges = [[list(item) for item in each] for each in ranges]
    rows, splits = plain_model(ranges, sum(PAPER.values()), seed, None)
    work = job(script_of(folder, ranges), folder / "set", seed=seed, tolerance=ANY)
    if not splits:
        with pytest.raises((UserError, FailedJob)):
            prepare("Scripted", work)
        return
    prepare("Scripted", work)
    prepared = PreparedSet.open(folder / "set")
    assert not list(verify(prepared.path))
    assert [[row.split, row.id, row.why, row.reason] for row in read_ledger(folder / "set")] == rows
    assert {name: [sample["id"] for sample in prepared.split(name)] for name in prepared.manifest.splits} == splits
    assert all(sample["blob"] == sample["id"].encode() * 7 for name in splits for sample in prepared.split(name))
    assert prepared.manifest.ledger == {why: sum(row[2] == why for row in rows) for why in prepared.manifest.ledger}
    numbered = all(len(id) % 2 for id in splits.get("train", ["x"]))
    assert "train" not in splits or ("number" in prepared.manifest.splits["train"].fields) == numbered


def test_the_papers_division_is_made_where_there_are_enough_items(tmp_path: Path) -> None:
    source = script_of(tmp_path, [[["pool", f"{place}.{number}", None] for number in range(20)] for place in range(3)])
    prepare("Scripted", job(source, tmp_path / "set"))
    manifest = Manifest.read(tmp_path / "set")
    assert manifest.choices["split"] == "paper" and manifest.choices["colour"] == "red"
    assert {name: facts.items for name, facts in manifest.splits.items()} == {"test": 30, "dev": 30}
    _, splits = plain_model(json.loads(source.read_text()), 50, 0, None)
    assert [sample["id"] for sample in PreparedSet.open(tmp_path / "set").split("test")] == splits["test"]
    prepare("Scripted", job(source, tmp_path / "official", protocol="official"))
    assert set(Manifest.read(tmp_path / "official").splits) == {"test"}


def test_a_split_may_join_a_pool_once_the_division_is_known(tmp_path: Path) -> None:
    rows = [["pool" if number % 5 else "train", f"item {number}", None] for number in range(25)]
    for protocol, sizes in (("paper", {"dev": 10, "test": 15}), ("official", {"test": 20, "train": 5})):
        work = job(script_of(tmp_path, [rows]), tmp_path / protocol, "Mixed", protocol=protocol)
        prepare("Mixed", work)
        splits = Manifest.read(tmp_path / protocol).splits
        assert {name: facts.items for name, facts in splits.items()} == sizes


@pytest.mark.parametrize(("size", "sizes"), [(3000, (1500, 1500)), (2709, (1500, 1209)), (150, (83, 67)), (0, (0, 0))])
def test_too_few_items_are_divided_in_the_papers_proportion(size: int, sizes: tuple[int, int]) -> None:
    assert tuple(divide(size, {"test": 1500, "dev": 1209}, rest="dev").values()) == sizes


def test_a_limit_reads_no_more_than_it_needs(tmp_path: Path, kind: str) -> None:
    rows = [[["train", f"{place}.{number}", None] for number in range(10)] for place in range(30)]
    source = script_of(tmp_path, rows)
    made = []
    for name, workers in (("one", 1), ("three", 3)):
        prepare(kind, job(source, tmp_path / name, kind, limit=15, workers=workers))
        made.append(files(tmp_path / name))
        assert len(set((tmp_path / "reads").read_text().split())) < 12
    assert made[0] == made[1]
    manifest = Manifest.read(tmp_path / "one")
    assert manifest.splits["train"].items == 15 and manifest.ledger == {
        "kept": 15, "filtered": 5, "duplicate": 0, "unavailable": 0, "damaged": 0,
    }  # fmt: skip


def test_a_mistake_that_is_seen_at_the_beginning_can_be_put_right(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(self: object) -> None:
        raise UserError("no such colour")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="no such colour"):
        patch.setattr("tests.prepare.preparers.Scripted.setup", mistaken)
        prepare("Scripted", job(source, tmp_path / "set", options={"colour": "rde"}, tolerance=ANY))
    prepare("Scripted", job(source, tmp_path / "set", tolerance=ANY))
    assert Manifest.read(tmp_path / "set").choices["colour"] == "red"


def test_what_was_begun_with_other_inputs_is_not_gone_on_with(source: Path, tmp_path: Path) -> None:
    begun = job(source, tmp_path / "set", share=Share(1, 2), tolerance=ANY)
    prepare("Scripted", begun)
    for other, what in (
        (replace(begun, seed=1), "another seed (0, now 1)"),
        (replace(begun, limit=3), "another limit (null, now 3)"),
        (replace(begun, options={"colour": "blue"}), "another options"),
    ):
        with pytest.raises(UserError) as error:
            prepare("Scripted", other)
        assert what in str(error.value) and "\n" not in str(error.value)


def test_two_processes_at_once_do_not_meet(source: Path, tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "set")
    work.make()
    with work.lock_share(job(source, tmp_path / "set")), pytest.raises(UserError, match="another process prepares it"):
        prepare("Scripted", job(source, tmp_path / "set"))


def test_too_many_damaged_items_stop_the_work_and_allowing_more_goes_on(tmp_path: Path) -> None:
    def rows(ranges: int) -> list[Any]:
        damage = ["damaged", "no 'x' at 7"]
        return [
            [["train", f"{place}.{number}", *(damage if number < 6 else [None])] for number in range(20)]
            for place in range(ranges)
        ]

    source = script_of(tmp_path, rows(100))
    with pytest.raises(
        FailedJob, match=r"300 of 1,000 items are damaged \(30.0%\), --max-damaged allows 20%, mostly: no"
    ):
        prepare("Scripted", job(source, tmp_path / "set"))
    assert len((tmp_path / "reads").read_text().split()) < 60, "it does not go on for a night"
    prepare("Scripted", job(source, tmp_path / "set", tolerance=Tolerance(damaged=0.3)))
    assert len((tmp_path / "reads").read_text().split()) == 100, "and nothing is read twice"
    source = script_of(tmp_path, rows(2))
    with pytest.raises(FailedJob, match=r"12 of 40 items are damaged.*ledger.jsonl"):
        prepare("Scripted", job(source, tmp_path / "few"))
    prepare("Scripted", job(source, tmp_path / "few", tolerance=Tolerance(damaged=0.3)))
    with pytest.raises(FailedJob, match="--max-duplicate allows 0%"):
        twice = script_of(tmp_path, [[["train", "a", None], ["train", "a", None]]])
        prepare("Scripted", job(twice, tmp_path / "twice", tolerance=Tolerance(duplicate=0.0)))


def test_a_full_disk_is_one_line_and_finished_parts_stay(source: Path, tmp_path: Path, kind: str, whole: Any) -> None:
    big = [[["train", f"{place}" * (1 if place < 3 else 20_000), None]] for place in range(5)]
    source = script_of(tmp_path, big)
    prepare(kind, job(source, tmp_path / "right", kind))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(FailedJob, match=r"cannot be written: File too large"):
            prepare(kind, job(source, tmp_path / "set", kind))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list((tmp_path / "set" / ".work").rglob("part.json"))) == 3
    (tmp_path / "reads").unlink()
    prepare(kind, job(source, tmp_path / "set", kind))
    assert (tmp_path / "reads").read_text().split() == ["3", "4"]
    assert files(tmp_path / "set") == files(tmp_path / "right")


def test_an_altered_part_is_noticed(source: Path, tmp_path: Path) -> None:
    prepare("Scripted", job(source, tmp_path / "set", share=Share(1, 1), tolerance=ANY))
    shard = next((tmp_path / "set" / ".work").rglob("train.tar"))
    content = bytearray(shard.read_bytes())
    content[600] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FailedJob, match=r"train.tar: altered or damaged"):
        prepare("Scripted", job(source, tmp_path / "set", tolerance=ANY))
    shutil.rmtree(shard.parent)
    prepare("Scripted", job(source, tmp_path / "set", tolerance=ANY))


def test_files_that_are_not_touched_are_rows_whatever_the_processes(tmp_path: Path) -> None:
    def tar(name: str, *paths: str) -> bytes:
        return tar_of(tmp_path / name, dict.fromkeys(paths, b"x")).read_bytes()

    inner = {"a.tar": tar("a", "1", "../2", "3"), "b.tar": tar("b", "4")[:700], "c.tar": tar("c", "/5", "6")}
    source = tar_of(tmp_path / "source", {**inner, "../outside": b"x"})
    made = []
    for workers in (1, 2):
        work = job(source, tmp_path / f"set{workers}", "Archived", workers=workers, tolerance=ANY)
        prepare("Archived", work)
        made.append(files(work.out))
    assert made[0] == made[1]
    assert [(row.id, row.why) for row in read_ledger(tmp_path / "set1")] == [
        ("../outside", "damaged"),
        ("a.tar/1", "kept"),
        ("a.tar/3", "kept"),
        ("a.tar/../2", "damaged"),
        ("b.tar/4", "kept"),
        ("b.tar", "damaged"),
        ("c.tar/6", "kept"),
        ("c.tar//5", "damaged"),
    ]


def test_a_folder_with_other_files_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("do not lose me")
    with pytest.raises(UserError, match=r"holds 'thesis.tex'.*--out"):
        prepare("Scripted", job(source, tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
