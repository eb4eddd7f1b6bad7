"""What an attacker does to a file: to its bytes, to what they mean, to its name and to its place."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from skillnet_cli.prepare.writer import SetWriter
from tests.cases.altering import altered
from tests.faults.corpus import damaged_files, sound_files

EVIL = "\x1b]0;title\x07\x1b[2J\u202egnp.exe\u2066\x9b31m\r\n"
"""A text that would command a terminal, and turn the direction of writing."""

SPARSE = 2 << 30
"""Bytes that a file claims to have and that the disk does not hold: more than a command may take into memory."""

VALUES: Sequence[Any] = (
    *(None, True, -1, 0, 0.5, 1e308, float("nan"), float("inf"), 2**63, 10**400, "", EVIL, "../../outside/canary"),
    *("/etc/passwd", "a" * 100_000, "\ud800", "é\x00", "builtins:exec", [], {}, [[]], ["a"] * 1000, {"": None}),
    *([1.5], {EVIL: EVIL}, {"__class__": "os"}, [None], "1", "1e999", "file:///etc/passwd", "http://127.0.0.1:1/"),
)


def spoil(path: Path, world: Path, draw: random.Random) -> str:
    """Spoil one file of a world; returns how."""
    if path.name == "manifest.json" and draw.random() < 0.5:
        _other_items(path.parent, draw)
        return "other items"
    if draw.random() < 0.2:
        fault = draw.choice(PLACES)
        fault(path, world, draw)
        return fault.__name__.strip("_")
    content = path.read_bytes()
    meant = MEANINGS.get(_suffix(path))
    chosen = draw.choice(meant) if meant is not None and draw.random() < 0.65 else altered
    path.write_bytes(chosen(content, draw))
    if draw.random() < 0.6 and _forge(path, world, content):
        return f"{chosen.__name__.strip('_')}, checksums forged"
    return chosen.__name__.strip("_")


def _forge(path: Path, world: Path, before: bytes) -> bool:
    """Write the new content's checksums where files above it have the old one's: an attacker does that, too."""
    after, forged = path.read_bytes(), False
    pairs = (
        (hashlib.sha256(before).hexdigest(), hashlib.sha256(after).hexdigest()),
        (f": {zlib.crc32(before)}", f": {zlib.crc32(after)}"),
        (f'"bytes": {len(before)}', f'"bytes": {len(after)}'),
    )
    for folder in path.parents[: len(path.relative_to(world).parts)]:
        for document in folder.glob("*.json"):
            if document == path or document.stat().st_size > 1 << 20:
                continue
            text = before_ = document.read_text("utf-8")
            for old, new in pairs:
                text = text.replace(old, new)
            if path.suffix == ".safetensors":
                text = re.sub(r'"crc32": \{[^}]*\}', '"crc32": {}', text)
            if text != before_:
                document.write_text(text, "utf-8")
                forged = True
    return forged


def _other_items(folder: Path, draw: random.Random) -> None:
    """A whole set anew, sound in its form, whose items are anything."""
    damaged = damaged_files()
    with SetWriter(folder, name=folder.name, licence=draw.choice(("none", EVIL))) as writer:
        for number in range(8):
            fields: dict[str, Any] = {
                "text": [f"第{number}句"],
                "label": "红绿蓝黄"[number % 4],
                "transcript": "一二",
                "code": "def f():\n    return 1\n",
            }
            media = {
                skill: next(iter(sorted(sound_files()[skill].items())))[::-1] for skill in ("sound", "image", "video")
            }
            for _ in range(draw.randint(0, 3)):
                skill = draw.choice(("sound", "image", "video"))
                media[skill] = draw.choice(sorted(damaged[skill].values()))
            for _ in range(draw.randint(0, 2)):
                name = draw.choice((*fields, "new"))
                evil = draw.choice(
                    (EVIL, "", " ", "a" * 300_000, "\x00", "（" * 5000, "\u202e", "x\ny", "<script>alert(1)</script>")
                )
                fields[name] = [evil, evil] if name == "text" else evil
            if draw.random() < 0.1:
                fields.pop(draw.choice(sorted(fields)))
            if draw.random() < 0.1:
                media.pop(draw.choice(sorted(media)))
            id = draw.choice((f"item-{number}", EVIL + str(number), "../" * 3 + str(number), "a:b#" + str(number)))
            writer.keep("train", id, fields, media)
        labels = draw.choice(([*"红绿蓝黄"], [], ["红", EVIL], [str(number) for number in range(3000)]))
        writer.finish({"label": labels, "transcript": draw.choice(([*"一二"], ["a"], []))})


def _suffix(path: Path) -> str:
    return next((each for each in (".tar.gz", ".jsonl.gz", ".txt.gz") if path.name.endswith(each)), path.suffix)


# Places


def _gone(path: Path, world: Path, draw: random.Random) -> None:
    path.unlink()


def _folder(path: Path, world: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, world: Path, draw: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path, world: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _link_to_a_device(path: Path, world: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(draw.choice(("/dev/zero", "/dev/tty", "/dev/full", "/proc/self/mem", "/proc/kmsg")))


def _link_out(path: Path, world: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(world.parent / "outside" / "canary")


def _loop_of_folders(path: Path, world: Path, draw: random.Random) -> None:
    (path.parent / "again").symlink_to(path.parent, target_is_directory=True)


def _sparse(path: Path, world: Path, draw: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(SPARSE)


def _another_kind(path: Path, world: Path, draw: random.Random) -> None:
    files = sorted(each for each in world.rglob("*") if each.is_file() and not each.is_symlink())
    path.write_bytes(draw.choice(files).read_bytes())


def _evil_name(path: Path, world: Path, draw: random.Random) -> None:
    names = (
        b"\x1b[31m\x07",
        "\u202egnp".encode(),
        b"a\nb",
        b"\xff\xfe",
        b"--help",
        b"-",
        b" ",
        b"x" * 200,
        b"a:b#c",
        b"*",
    )
    name = draw.choice(names) + os.fsencode(path.suffix)
    os.rename(os.fsencode(path), os.path.join(os.fsencode(path.parent), name))  # noqa: PTH104, PTH118 - not UTF-8


PLACES: Sequence[Callable[[Path, Path, random.Random], None]] = (
    *(_gone, _folder, _pipe, _loop, _link_to_a_device, _link_out, _loop_of_folders, _sparse, _another_kind),
    *(_another_kind, _evil_name),
)

# Meanings


def _other_value(content: bytes, draw: random.Random) -> bytes:
    """A node of a JSON document, or a line of such, becomes something else, or has another key, or is nested deep."""
    lines = content.splitlines()
    try:
        place = 0 if len(lines) == 1 or content.lstrip()[:1] == b"[" or lines[0] == b"{" else draw.randrange(len(lines))
        whole = lines[0] == b"{" or content.lstrip()[:1] == b"["
        document = json.loads(content if whole else lines[place])
    except (ValueError, IndexError):
        return altered(content, draw)
    text = json.dumps(_changed(document, draw)).encode()
    return text if whole else b"\n".join((*lines[:place], text, *lines[place + 1 :])) + b"\n"


def _changed(document: Any, draw: random.Random) -> Any:
    nodes: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            nodes.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    if isinstance(document, (dict, list)):
        walk(document)
    if not nodes or draw.random() < 0.03:
        return draw.choice(VALUES)
    node, key = draw.choice(nodes)
    if isinstance(node, dict) and draw.random() < 0.15:
        node[draw.choice((EVIL, "", "a" * 10_000, "../x", "new"))] = node.pop(key)
    elif draw.random() < 0.1:
        del node[key]
    else:
        node[key] = draw.choice(VALUES)
    return document


def _deep(content: bytes, draw: random.Random) -> bytes:
    return draw.choice((b"[", b'{"a":')) * draw.choice((2_000, 200_000))


def _array(content: bytes, draw: random.Random) -> bytes:
    """An array of another type or shape than is expected, objects among them, or one that claims a size."""
    kinds = ("<i8", "<f8", "<u2", "|b1", "<c8", "|S9", "<U4", "<M8[s]", "[('a', '<i8'), ('b', '<f4')]", "|O")
    kind, shape = (
        draw.choice(kinds),
        draw.choice(("()", "(0,)", "(5,)", "(2, 3)", "(1099511627776,)", "(-1,)", "(1.5,)")),
    )
    described = kind if kind[0] == "[" else repr(kind)
    header = f"{{'descr': {described}, 'fortran_order': {draw.choice(('False', 'True', '2'))}, 'shape': {shape}, }}"
    length = draw.choice((len(header), len(header), 65_535))
    body = content[128:] or bytes(80)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + header.encode() + body


def _other_numbers(content: bytes, draw: random.Random) -> bytes:
    """The same array with numbers that are too large, negative, or in another order."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError:
        return altered(content, draw)
    flat = array.reshape(-1).copy()
    if flat.dtype.kind in "iuf" and flat.size:
        for _ in range(draw.randint(1, 3)):
            flat[draw.randrange(flat.size)] = draw.choice((0, 1, 2**31 - 1, 7))
        draw.random() < 0.3 and flat.sort()
    file = io.BytesIO()
    np.save(file, flat.reshape(array.shape))
    return file.getvalue()


def _header_of_weights(content: bytes, draw: random.Random) -> bytes:
    """Another header of safetensors: a changed value, an offset beyond the file, a length of a petabyte."""
    if draw.random() < 0.2 or len(content) < 8:
        return struct.pack("<Q", draw.choice((0, 2**50, 2**63, len(content), 100_000_001))) + content[8:]
    (length,) = struct.unpack("<Q", content[:8])
    try:
        header = json.dumps(_changed(json.loads(content[8 : 8 + length]), draw)).encode()
    except (ValueError, RecursionError):
        return altered(content, draw)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _not_finite(content: bytes, draw: random.Random) -> bytes:
    """Weights that are no numbers."""
    start = 8 + struct.unpack("<Q", content[:8])[0] if len(content) > 8 else 0
    return content[:start] + draw.choice((b"\xff", b"\x7f", b"\0")) * (len(content) - start)


NAMES = (
    *(
        "../../outside/new",
        "/tmp/hostile-new",
        "a/../../b",
        "\x1b[31m.txt",
        "\u202e.txt",
        "a" * 300,
        "a\\..\\b",
        "C:\\x",
    ),
    *("", ".", "a\nb.txt", "con", "x/" * 200 + "y", "train.json"),
)


def _members(content: bytes) -> list[tuple[str, bytes]]:
    file = io.BytesIO(content)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return [(name, archive.read(name)) for name in archive.namelist()]
        with tarfile.open(fileobj=io.BytesIO(content)) as packed:
            return [(each.name, packed.extractfile(each).read()) for each in packed if each.isfile()]  # type: ignore[union-attr]
    except (OSError, tarfile.TarError, zipfile.BadZipFile, RuntimeError):
        return []


def _tar_of(content: bytes, draw: random.Random, mode: str) -> bytes:
    """The members, and one of them is a link out, a device, a huge one, of an odd name, a bomb, or spoilt itself."""
    file, members = io.BytesIO(), _members(content)
    chosen, how = draw.randrange(max(len(members), 1)), draw.randrange(7)
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for place, (name, body) in enumerate(members or [("a", b"")]):
            info, given = tarfile.TarInfo(name), body
            if place == chosen:
                if how == 0:
                    info.type, info.linkname = draw.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)), "../../outside/canary"
                elif how == 1:
                    info.type = draw.choice((tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S", b"x", b"?"))
                elif how == 2:
                    info.name = draw.choice(NAMES)
                elif how == 3:
                    given = bytes(64 << 20) if mode == "w:gz" else body * 3
                elif how == 4:
                    given = altered(body, draw)
                elif how == 5:
                    given = _other_value(body, draw) if name.endswith("json") else _text(body, draw)
                else:
                    info.pax_headers = {
                        "size": str(draw.choice((2**60, -5))),
                        "path": draw.choice(NAMES),
                        "x": "y" * 5000,
                    }
            info.size = len(given) if info.isreg() else 0
            try:
                archive.addfile(info, io.BytesIO(given) if info.size else None)
            except (ValueError, UnicodeError, OSError):
                archive.addfile(tarfile.TarInfo("b"))
    return file.getvalue()


def _tar(content: bytes, draw: random.Random) -> bytes:
    return _tar_of(content, draw, "w")


def _tar_gz(content: bytes, draw: random.Random) -> bytes:
    return _tar_of(content, draw, "w:gz")


def _huge_member(content: bytes, draw: random.Random) -> bytes:
    """A header that claims a terabyte."""
    info = tarfile.TarInfo("huge")
    info.size = 1 << 40
    return info.tobuf(tarfile.GNU_FORMAT) + content


def _zip(content: bytes, draw: random.Random) -> bytes:
    """As :func:`_tar_of`, with an encrypted member and a lying size in place of links."""
    file, members = io.BytesIO(), _members(content)
    chosen, how = draw.randrange(max(len(members), 1)), draw.randrange(6)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, (name, body) in enumerate(members or [("a", b"")]):
            info, given = zipfile.ZipInfo(name), body
            if place == chosen:
                if how == 0:
                    info.external_attr, given = 0o120777 << 16, b"../../outside/canary"
                elif how == 1:
                    info.filename = draw.choice(NAMES)
                elif how == 2:
                    info.compress_type, given = zipfile.ZIP_DEFLATED, bytes(64 << 20)
                elif how == 3:
                    given = altered(body, draw)
                elif how == 4:
                    given = _other_value(body, draw) if name.endswith("json") else _text(body, draw)
            archive.writestr(info, given)
    made = bytearray(file.getvalue())
    if how == 5:
        at = made.find(b"PK\x01\x02")
        made[at + 8] |= draw.choice((1, 8))
        made[at + 24 : at + 28] = draw.choice((b"\xff\xff\xff\x7f", b"\0\0\0\0"))
    return bytes(made)


@cache
def _zeros() -> bytes:
    return gzip.compress(bytes(16 << 20))


def _bomb(content: bytes, draw: random.Random) -> bytes:
    """Two gigabytes of zeros in two megabytes."""
    return content + _zeros() * 128


def _packed_text(content: bytes, draw: random.Random) -> bytes:
    try:
        inside = gzip.decompress(content)
    except (OSError, EOFError):
        return altered(content, draw)
    return gzip.compress(draw.choice((_other_value, _text))(inside, draw), 1)


def _text(content: bytes, draw: random.Random) -> bytes:
    """A text with a line of megabytes, a quote that is never closed, bytes of no encoding, commands of terminals."""
    lines = content.splitlines(keepends=True) or [b""]
    place = draw.randrange(len(lines))
    line = lines[place]
    evil = EVIL.encode()
    choices = (
        line.rstrip() + evil,
        evil + line,
        b'"' + line,
        line.replace(b",", b',"', 1),
        b"\xff\xfe" + line,
        b"a" * 5_000_000,
        line * 400,
        b"," * 100_000,
        b"\0" * 9 + line,
        line.replace(b",", b"\x1b[0m,"),
        b"\xed\xa0\x80" + line,
        b"\n" * 9_000,
        "\u2028\u202e\x85".encode() + line,
        b"\xef\xbb\xbf" + line,
        line.decode("utf-8", "replace").encode("utf-16"),
    )
    lines[place] = draw.choice(choices)
    return b"".join(lines)


def _recipe(content: bytes, draw: random.Random) -> bytes:
    """A value of a recipe becomes another, a key is written twice or is unknown, tables are nested deep."""
    lines = content.decode("utf-8", "replace").splitlines()
    place = draw.randrange(max(len(lines), 1))
    key, sign, _ = lines[place].partition("=")
    values = (
        '""',
        "-1",
        "0",
        "1e999",
        "nan",
        "inf",
        "true",
        "[]",
        "{}",
        "99999999999999",
        '"\\u001b[2J\\u202e"',
        "1979-05-27",
        "[" * 3000,
        '"../../outside/canary"',
        "[[1]]",
        "{ a = 1 }",
        '"' + "x" * 50_000 + '"',
        "0.5",
        '["a", "a"]',
    )
    if sign:
        lines[place] = draw.choice(
            (f"{key}= {draw.choice(values)}", f"{lines[place]}\n{lines[place]}", f"x{lines[place]}")
        )
    else:
        lines[place] = draw.choice(
            ("[" + "a." * 2000 + "a]", '["\\u001b[2J"]', "[[model]]", "[finetune.tasks.none]", "")
        )
    return "\n".join(lines).encode("utf-8", "replace")


def _medium(skill: str) -> Callable[[bytes, random.Random], bytes]:
    def damaged(content: bytes, draw: random.Random) -> bytes:
        return draw.choice([bad for bad, _ in damaged_files()[skill].values()])

    return damaged


def _columns(content: bytes, draw: random.Random) -> bytes:
    """A table of Parquet whose columns hold anything."""
    import pyarrow
    import pyarrow.parquet

    columns = {
        "text": ["a", EVIL, ""],
        "numbers": [1, 2, 3],
        "lists": [[1], [], None],
        "bytes": [b"\xff", b"", None],
        "tables": [{"a": 1}, {"a": None}, None],
        "empty": [None] * 3,
        "floats": [float("nan"), 1e308, 0.5],
        "long": ["x" * 3_000_000] * 3,
        "flags": [True, None, False],
    }
    names = {name: columns[draw.choice(sorted(columns))] for name in ("first", "second", "same")}
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(names), file)
    return file.getvalue()


MEANINGS: dict[str, Sequence[Callable[[bytes, random.Random], bytes]]] = {
    ".json": (_other_value, _other_value, _other_value, _other_value, _deep),
    ".jsonl": (_other_value, _other_value, _other_value, _text, _deep),
    ".npy": (_array, _other_numbers),
    ".safetensors": (_header_of_weights, _header_of_weights, _not_finite),
    ".tar": (_tar, _tar, _tar, _huge_member),
    ".tar.gz": (_tar_gz, _tar_gz, _tar_gz, _bomb),
    ".zip": (_zip,),
    ".whl": (_zip,),
    ".gz": (_bomb,),
    ".txt.gz": (_bomb, _packed_text, _packed_text),
    ".jsonl.gz": (_bomb, _packed_text, _packed_text),
    **dict.fromkeys((".txt", ".csv", ".tsv", ".py", ".md"), (_text,)),
    ".toml": (_recipe,),
    ".parquet": (_columns,),
    **dict.fromkeys((".png", ".jpg", ".webp"), (_medium("image"),)),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg"), (_medium("sound"),)),
    **dict.fromkeys((".mp4", ".webm", ".gif"), (_medium("video"),)),
}
