"""What is embedded and searched with: files, folders, links, odd names, and words that are no files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skillnet_cli.api import add_remark
from skillnet_cli.inference.capabilities import Capabilities
from skillnet_cli.inference.inputs import Query
from skillnet_cli.inference.walk import name_of, path_of
from skillnet_cli.plugins import load_registry
from tests.inference.world import World


@pytest.fixture
def folder(world: World) -> Path:
    """A folder that is embedded, and a model in a run."""
    world.save_run()
    (world.folder / "in").mkdir()
    (world.folder / "in" / "good.shape").write_bytes(b"abc")
    return world.folder / "in"


def embed(world: World, *what: str | Path, code: int = 0) -> str:
    return world.skillnet("embed", *map(str, what), "--to", "c", code=code)[1]


def test_l04_what_no_modality_reads_is_counted(world: World, folder: Path) -> None:
    for name in ("a.ipynb", "b.ipynb", "c.flv", "README", ".secret.shape", "d.tar.gz"):
        (folder / name).write_bytes(b"abc")
    (folder / ".git").mkdir()
    os.mkfifo(folder / "pipe.shape")
    (folder / "nowhere.shape").symlink_to("gone.shape")
    said = embed(world, folder)
    assert "left out: 2 .ipynb, 1 without a suffix, 1 .flv, 1 .gz: no modality reads them" in said
    assert "left out: 2 hidden, 1 broken links, 1 pipes, sockets or devices" in said
    assert "1 items (1 embedded now" in said
    counts = world.answer("embed", str(folder), "--to", "c")["left_out"]
    assert counts == {
        ".ipynb": 2, ".flv": 1, "without a suffix": 1, ".gz": 1,
        "hidden": 2, "broken links": 1, "pipes, sockets or devices": 1,
    }  # fmt: skip


def test_l04_a_file_that_is_named_is_told_by_name(world: World, folder: Path) -> None:
    (folder / "c.flv").write_bytes(b"abc")
    (folder / "README").write_bytes(b"abc")
    said = embed(world, "in/good.shape", "in/c.flv", "in/README")
    assert "in/c.flv: left out: no modality reads files ending in '.flv'" in said
    assert "in/README: left out: a modality is recognised by the file's suffix, and it has none" in said
    assert "1 items (1 embedded now" in said
    assert "in/c.flv: left out" in embed(world, "in/c.flv", code=2)
    # A hidden file that is named is wanted.
    (folder / ".hidden.shape").write_bytes(b"uvw")
    assert "2 items (1 embedded now" in embed(world, "in/.hidden.shape")


def test_l04_every_file_of_a_folder_is_accounted_for(world: World, folder: Path) -> None:
    for number in range(40):
        (folder / f"{number}.x{number}").write_bytes(b"abc")
        (folder / f"{number}.SHAPE").write_bytes(b"abc" if number % 2 else b"!")
    document = world.answer("embed", str(folder), "--to", "c")
    counted = sum(document["added"].values()) + len(document["damaged"]) + sum(document["left_out"].values())
    assert counted == len(list(folder.iterdir()))


def test_l05_linked_folders_are_entered_once(world: World, folder: Path) -> None:
    album = world.folder / "album"
    album.mkdir()
    (album / "one.shape").write_bytes(b"xyz")
    (folder / "album").symlink_to(album)
    (album / "back").symlink_to(folder)
    (album / "self").symlink_to(".")
    (folder / "loop").symlink_to("loop")
    said = embed(world, folder)
    assert "2 items (2 embedded now" in said and "left out: 1 broken links" in said
    # What is gone from a linked folder is told as well.
    (album / "one.shape").unlink()
    assert "1 item is gone" in embed(world, folder)


def test_t01_names_that_are_not_utf8_are_taken(world: World, folder: Path) -> None:
    odd = os.fsencode(folder) + b"/\xba\xec\xb3\xb5.shape"
    try:
        Path(os.fsdecode(odd)).write_bytes(b"xyz")
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    (folder / r"\xba\xec\xb3\xb5.shape").write_bytes(b"uvw")  # another file, called as the escapes are written
    (folder / "line\nend.shape").write_bytes(b"uwx")
    said = embed(world, folder)
    assert "4 items (4 embedded now, 0 unchanged, 0 could not be read)" in said
    assert "4 items (0 embedded now, 4 unchanged" in embed(world, folder)
    hits = world.answer("search", "abc", "--in", "c")["hits"]
    assert f"$'{folder}/\\xba\\xec\\xb3\\xb5.shape'" in {hit["path"] for hit in hits}
    assert len({hit["path"] for hit in hits}) == 4
    Path(os.fsdecode(odd)).unlink()
    assert "1 item is gone" in embed(world, folder)


@pytest.mark.parametrize("raw", [b"/a/\xba\xec.jpg", b"/a/it's \\x41\xff", b"/a/\n\t\x1b[31m", "/a/红 色.jpg".encode()])
def test_t01_a_name_leads_back_to_its_path(raw: bytes) -> None:
    name = name_of(Path(os.fsdecode(raw)))
    assert name.isprintable() and os.fsencode(path_of(name)) == raw
    name.encode()  # no halves of characters


def test_t02_an_argument_that_is_not_utf8_is_one_line(world: World, folder: Path) -> None:
    embed(world, folder)
    asked = "红色".encode("gbk").decode("utf-8", "surrogateescape")
    assert "is neither UTF-8 nor in the encoding" in world.skillnet("search", asked, "--in", "c", code=2)[1]
    # What an ASCII locale could not decode, but is UTF-8.
    asked = "红色".encode().decode("ascii", "surrogateescape")
    right = world.answer("search", "红色", "--in", "c")["hits"]
    assert world.answer("search", asked, "--in", "c")["hits"] == right


def test_m02_a_path_to_nothing_is_not_a_sentence(world: World, folder: Path) -> None:
    embed(world, folder)
    for query in ("missing.shape", "./pictures", "in/missing", "../x y", f"{folder}/no thing", "in/x.SHAPE"):
        assert f"{query}: there is no such file" in world.skillnet("search", query, "--in", "c", code=2)[1]


def test_m02_a_sentence_with_a_dot_or_a_slash_is_one(world: World, folder: Path) -> None:
    registry = load_registry()
    capabilities = Capabilities(world.model()[0].config, registry)
    for query in (
        "a sentence. It ends.",
        "show me dog.shape please",
        "and/or",
        "红色/蓝色",
        "3.14",
        "...",
        "a" * 9_999,
    ):
        assert Query.parse(query, capabilities, registry) == Query("word", query)


def test_u08_a_folder_and_nothing_at_all_are_told(world: World, folder: Path) -> None:
    embed(world, folder)
    assert "in is a folder: search with one file" in world.skillnet("search", "in", "--in", "c", code=2)[1]
    for query in ("", "  "):
        assert "cannot search with an empty text" in world.skillnet("search", query, "--in", "c", code=2)[1]
    os.mkfifo(world.folder / "pipe.shape")
    assert "is not a file, but a pipe" in world.skillnet("search", "pipe.shape", "--in", "c", code=2)[1]


def test_m03_a_skill_that_does_not_exist_is_told(world: World, folder: Path) -> None:
    embed(world, folder)
    search = ("search", "abc", "--in", "c", "--skill")
    assert "unknown skill 'shpae': did you mean 'shape'?" in world.skillnet(*search, "shpae", code=2)[1]
    assert "unknown skill 'zzz': installed are hum, lone, shape, word" in world.skillnet(*search, "zzz", code=2)[1]
    printed, said = world.skillnet(*search, "word")
    assert printed == "" and "c has no items of skill word; it has shape" in said


def test_l10_remarks_on_many_items_are_one_line(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bytes_parts

    def read(self: object, source: Path) -> object:
        add_remark(f"is {source.stat().st_size} letters long")
        return plain(self, source)

    plain = bytes_parts.BytesReader.read
    monkeypatch.setattr(bytes_parts.BytesReader, "read", read)
    for number in range(5):
        (folder / f"{number}.shape").write_bytes(b"abc" * (1 + number))
    said = embed(world, folder)
    assert "6 items, such as in/0.shape: is 3 letters long" in said and said.count("letters") == 1
    assert "the query is 3 letters long" in world.skillnet("search", "in/0.shape", "--in", "c")[1]
