"""Collections on disk: killed, shared, on full and read-only disks, with flipped bits, with files that are gone."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.inference.collection import Collection, Entry, MadeBy
from tests.inference.world import World

MODEL = MadeBy("model", {"image": "a"})
ROOT = Path(__file__).parents[2]


def entries(count: int, stamp: str = "1") -> list[Entry]:
    return [Entry(f"image-{number}", "image", stamp) for number in range(count)]


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def pictures(world: World) -> Path:
    """A folder with two shapes, and a model in a run."""
    world.save_run()
    folder = world.folder / "pictures"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.shape").write_bytes(b"abc")
    (folder / "deep" / "two.shape").write_bytes(b"xyz")
    return folder


def embed(world: World, *what: str | Path, code: int = 0) -> str:
    """What ``embed`` says on standard error."""
    return world.skillnet("embed", *map(str, what), "--to", "c", code=code)[1]


def names(world: World, query: str = "abc") -> list[str]:
    hits = world.answer("search", query, "--in", "c", "--top", "1000")["hits"]
    return sorted(hit["path"] for hit in hits)


WRITER = """
import sys, torch
from pathlib import Path
from skillnet_cli.inference.collection import Collection, Entry, MadeBy
collection = Collection.create(Path(sys.argv[1]), MadeBy("model", {"image": "a"}), 8)
for start in range(0, 60, 10):
    entries = [Entry(f"image-{number}", "image", sys.argv[2]) for number in range(start, start + 10)]
    collection.put(entries, torch.full((10, 8), float(start)))
"""


def test_s14_two_writers_make_no_duplicates(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "c")]
    running = [subprocess.Popen([*command, str(number)], cwd=ROOT, stderr=subprocess.PIPE) for number in range(2)]
    assert [process.communicate()[1] for process in running] == [b"", b""]
    assert [process.returncode for process in running] == [0, 0]
    collection = Collection.open(tmp_path / "c", MODEL)
    assert len(collection) == 60 and len(collection.stamps()) == 60


@pytest.mark.parametrize("left", ["marker", "table without a marker", "half a table", "half a marker"])
def test_s14_one_that_was_killed_at_its_beginning_is_gone_on_with(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "c"
    Collection.create(folder, MODEL, 8)
    if left == "marker":
        shutil.rmtree(folder / "items.lance")
    elif left == "half a table":
        shutil.rmtree(folder / "items.lance" / "_versions")
    else:
        (folder / "collection.json").unlink()
        if left == "half a marker":
            (folder / "collection.json.partial").write_text('{"mod')
    collection = Collection.create(folder, MODEL, 8)
    collection.put(entries(3), vectors(3))
    assert len(Collection.open(folder, MODEL)) == 3


def test_s14_vectors_of_nobody_knows_which_model_are_not_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    Collection.create(folder, MODEL, 8).put(entries(3), vectors(3))
    kept = (folder / "collection.json").read_text()
    (folder / "collection.json").unlink()
    for attempt in range(2):
        with pytest.raises(UserError, match=r"collection\.json is missing.*delete the folder and embed again"):
            Collection.create(folder, MadeBy("other", {"image": "z"}), 8)
        assert not (folder / "collection.json").exists(), attempt
    (folder / "collection.json").write_text(kept)
    assert len(Collection.open(folder, MODEL)) == 3, "nothing was lost"


def test_s14_an_empty_one_belongs_to_no_model(tmp_path: Path) -> None:
    Collection.create(tmp_path / "c", MadeBy("other", {"image": "z"}), 16)
    collection = Collection.create(tmp_path / "c", MODEL, 8)
    collection.put(entries(3), vectors(3))
    assert len(Collection.open(tmp_path / "c", MODEL)) == 3


def test_s14_flipped_bits_are_told_or_change_nothing(tmp_path: Path) -> None:
    folder, asked = tmp_path / "c", vectors(1, seed=5)[0]
    for start in range(0, 60, 20):
        Collection.create(folder, MODEL, 8).put(entries(start + 20), vectors(start + 20))
    Collection.open(folder, MODEL).remove(["image-3", "image-4"])
    right = Collection.open(folder, MODEL).search(asked, 100)
    assert len(right) == 58
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    chance = random.Random(0)
    told = 0
    for _ in range(60):
        file = chance.choice(files)
        content = file.read_bytes()
        place = chance.randrange(len(content))
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :])
        try:
            assert Collection.open(folder, MODEL).search(asked, 100) == right
        except UserError as error:
            assert "\n" not in str(error) and str(folder) in str(error)
            told += 1
        file.write_bytes(content)
    assert told > 30


@pytest.mark.parametrize("damage", ["gone", "cut off", "empty"])
def test_s14_a_damaged_file_is_one_line(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "c"
    Collection.create(folder, MODEL, 8).put(entries(9), vectors(9))
    for kind in ("*.lance", "*.manifest"):
        copy = tmp_path / f"copy{kind[2:]}"
        shutil.copytree(folder, copy)
        (copy / "checksums.json").unlink()  # as in a collection of an earlier version
        for file in [path for path in copy.rglob(kind) if path.is_file()]:
            file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[: 40 * (damage != "empty")])
        with pytest.raises(UserError, match="is damaged") as caught:
            Collection.open(copy, MODEL).search(vectors(1)[0], 3)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    ["[" * 20_000, '{"model": 3, "hidden": 8}', '{"model": "model", "hidden": 1e99}', '{"model": "model", "hidden": 9}',
     '{"model": "model", "hidden": 99999999999}', '{"model": "model", "hidden": 8, "precision": "fp8"}', "null", ""],
)  # fmt: skip
def test_s14_what_a_collection_says_of_itself_is_checked(tmp_path: Path, document: str) -> None:
    folder = tmp_path / "c"
    Collection.create(folder, MODEL, 8).put(entries(3), vectors(3))
    (folder / "collection.json").write_text(document)
    for opening in (Collection.open, lambda folder, model: Collection.create(folder, model, 8)):
        with pytest.raises(UserError, match="is damaged"):
            opening(folder, MODEL)


@contextmanager
def smallest_files(size: int) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes: what a full disk does to whoever writes."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_s14_a_full_disk_is_one_line_and_passes(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    for size in (0, 50, 400, 3_000):
        with smallest_files(size), pytest.raises(FailedJob, match="cannot be written") as caught:
            Collection.create(folder, MODEL, 8).put(entries(2_000), vectors(2_000))
        assert "\n" not in str(caught.value)
    collection = Collection.create(folder, MODEL, 8)
    collection.put(entries(2_000), vectors(2_000))
    assert len(Collection.open(folder, MODEL)) == 2_000


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, as root may write everywhere")
def test_t06_a_collection_that_cannot_be_written_can_be_searched(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    Collection.create(folder, MODEL, 8).put(entries(3), vectors(3))
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    script = WRITER.replace("for start", "print(len(collection.search(torch.ones(8), 9)), flush=True)\nfor start")
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    done = subprocess.run(
        [*bound, sys.executable, "-c", script, str(folder), "2"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "3", done.stderr
    assert (
        done.stderr.splitlines()[-1].startswith("skillnet_cli.api.FailedJob: ") and "cannot be written" in done.stderr
    )


def test_s14_one_file_by_many_paths_is_one_item(world: World, pictures: Path) -> None:
    (world.folder / "link.shape").symlink_to(pictures / "one.shape")
    (pictures / "beside.shape").symlink_to("one.shape")
    (world.folder / "folder").symlink_to(pictures)
    composed = unicodedata.normalize("NFC", "café.shape")
    (pictures / composed).write_bytes(b"new")
    said = embed(world, "pictures", pictures, "link.shape", "folder", "pictures/../pictures/one.shape")
    assert "3 items (3 embedded now, 0 unchanged" in said
    assert "3 items (0 embedded now, 3 unchanged" in embed(world, f"{pictures}/")
    # The same name in another form of Unicode, as another system's archive has it.
    (pictures / composed).rename(pictures / unicodedata.normalize("NFD", composed))
    assert "3 items (0 embedded now, 3 unchanged" in embed(world, "pictures")
    assert f"{pictures}/{composed}" in names(world)
    assert "3 items (0 embedded now, 1 unchanged" in embed(world, f"pictures/{composed}")
    # Two files whose names differ in nothing else are two where their contents are.
    (pictures / composed).write_bytes(b"other")
    assert "4 items (2 embedded now" in embed(world, "pictures")
    assert len(names(world)) == 4


def test_s14_a_file_that_goes_meanwhile_is_counted(
    world: World, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skillnet_cli.inference import inputs

    real = inputs.sha256_of

    def deleting(path: Path) -> str:
        stamp = real(path)
        if path.name == "one.shape":
            path.unlink()
        return stamp

    monkeypatch.setattr(inputs, "sha256_of", deleting)
    said = embed(world, "pictures")
    assert "pictures/one.shape: it cannot be read" in said
    assert "1 items (1 embedded now, 0 unchanged, 1 could not be read)" in said


def test_l08_what_is_gone_is_told_and_pruned(world: World, pictures: Path) -> None:
    (world.folder / "other.shape").write_bytes(b"uvw")
    embed(world, "pictures", "other.shape")
    (pictures / "one.shape").unlink()
    (world.folder / "other.shape").unlink()
    said = embed(world, "pictures")
    assert "1 item is gone: --prune takes them out" in said and len(names(world)) == 3
    said = embed(world, "pictures", "--prune")
    assert "1 item is gone, and taken out" in said
    assert names(world) == [str(world.folder / "other.shape"), str(pictures / "deep" / "two.shape")]
    shutil.rmtree(pictures)
    embed(world, "pictures", "other.shape", "--prune")
    assert names(world) == []
    assert "nowhere' is neither a file nor a folder" in embed(world, "nowhere", "--prune", code=2)


def test_l08_what_can_no_longer_be_read_leaves(world: World, pictures: Path) -> None:
    embed(world, "pictures")
    (pictures / "one.shape").write_bytes(b"!")
    said = embed(world, "pictures")
    assert "pictures/one.shape: an exclamation mark" in said and "1 could not be read" in said
    assert names(world) == [str(pictures / "deep" / "two.shape")]


def test_l08_items_that_a_set_no_longer_has_are_gone(world: World) -> None:
    world.save_run()
    world.prepare("pairs")
    embed(world, "pairs")
    (world.data / "pairs").rename(world.data / "old")
    from skillnet_cli.inference import inputs

    gathered = inputs.Inputs(frozenset(), inputs.Found(), 0, iter(()), ("pairs:test",), set())
    assert gathered.gone(["pairs:test#a", "pairs:train#a", "/pairs:test"]) == ["pairs:test#a"]


def test_l12_only_damaged_files_is_a_failure(world: World, pictures: Path) -> None:
    (world.folder / "bad.shape").write_bytes(b"!")
    assert "none of 1 items could be read" in embed(world, "bad.shape", code=1)
    embed(world, "pictures")
    assert "1 could not be read" in embed(world, "pictures", "bad.shape")


def test_t07_more_than_there_are_is_all(world: World, pictures: Path) -> None:
    embed(world, "pictures")
    for top in ("100000000000", str(2**70)):
        assert len(world.answer("search", "abc", "--in", "c", "--top", top)["hits"]) == 2


def test_u04_a_collection_opens_its_own_model(world: World, pictures: Path) -> None:
    embed(world, "pictures")
    own = world.run / "model"
    (world.folder / "runs" / "newer").mkdir()
    (world.folder / "runs" / "newer" / "recipe.toml").write_text("")
    model, readers = world.model(seed=2)
    model.save(world.folder / "runs" / "newer" / "model", readers)
    hits, said = world.skillnet("search", "abc", "--in", "c")
    assert f"using {own}, the model of c" in said and len(hits.splitlines()) == 2
    assert "2 unchanged" in embed(world, "pictures")
    shutil.copytree(own, world.folder / "runs" / "copy" / "model")
    shutil.rmtree(world.run)
    # It has gone: the run whose model gives the same vectors.
    assert "using runs/copy/model" in world.skillnet("search", "abc", "--in", "c")[1]
    shutil.rmtree(world.folder / "runs" / "copy")
    assert "other weights, settings or assets" in world.skillnet("search", "abc", "--in", "c", code=2)[1]


def test_u04_search_takes_the_newest_run_that_has_a_collection(world: World, pictures: Path) -> None:
    world.skillnet("embed", "pictures")
    newer = world.folder / "runs" / "newer"
    newer.mkdir()
    (newer / "recipe.toml").write_text("")
    model, readers = world.model(seed=2)
    model.save(newer / "model", readers)
    assert "using runs/small/model" in world.skillnet("search", "abc")[1]
    # A run's folder stands for its model.
    assert world.answer("search", "abc", "--checkpoint", "runs/small")["hits"]


def test_b05_a_collection_goes_on_in_its_own_precision(world: World, pictures: Path) -> None:
    assert world.answer("embed", "pictures", "--to", "c", "--precision", "bf16")["precision"] == "bf16"
    (pictures / "three.shape").write_bytes(b"uvw")
    assert world.answer("embed", "pictures", "--to", "c")["precision"] == "bf16"
    assert json.loads((world.folder / "c" / "collection.json").read_text())["precision"] == "bf16"
    assert "computed in bf16: leave out --precision" in embed(world, "pictures", "--precision", "fp32", code=2)
    assert world.answer("embed", "pictures", "--to", "d")["precision"] == "fp32"
    assert world.answer("search", "abc", "--in", "c")["precision"] == "bf16"


def test_u11_hits_are_shown_as_one_would_type_them(
    world: World, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(world, pictures)
    assert {line.split()[2] for line in world.skillnet("search", "abc", "--in", "c")[0].splitlines()} == {
        "pictures/one.shape",
        "pictures/deep/two.shape",
    }
    monkeypatch.chdir(pictures / "deep")
    (pictures / "deep" / "runs").symlink_to(world.folder / "runs")
    printed = world.skillnet("search", "abc", "--in", os.path.relpath(world.folder / "c"))[0]
    assert {line.split()[2] for line in printed.splitlines()} == {"two.shape", str(pictures / "one.shape")}


def test_u07_what_was_found_is_a_page_to_look_at(world: World, pictures: Path) -> None:
    world.prepare("pairs")
    (pictures / "<b>.shape").write_bytes(b"abc")
    embed(world, "pictures", "pairs")
    (pictures / "one.shape").unlink()
    said = world.skillnet("search", "<i>", "--in", "c", "--top", "99", "--html", "found.html")[1]
    assert "found.html: 20 items to look at" in said
    page = (world.folder / "found.html").read_text()
    assert f"<code>{(b'bw' * 3).hex()}</code>" in page and "pairs:test#bw-" in page  # the plugin's preview
    assert f"<code>{b'xyz'.hex()}</code>" in page and "pictures/deep/two.shape" in page
    assert "pictures/&lt;b&gt;.shape" in page and "<b>" not in page and "<i>" not in page
    assert page.count("it is not there any more") == 1 and "default-src &#x27;none&#x27;" in page
    assert "does not exist" in world.skillnet("search", "x", "--in", "c", "--html", "no/x.html", code=2)[1]
