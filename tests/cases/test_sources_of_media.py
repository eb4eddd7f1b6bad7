"""What media are read from: bytes and paths, never a text, nor what a file of theirs names."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from skillnet_cli.api import DamagedItem
from skillnet_cli.data.pipeline import sources_of
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.evaluation.report.found import Shown, write_found
from skillnet_cli.inference.inputs import find_sources
from skillnet_cli.plugins import load_registry, resolve
from skillnet_cli.prepare.writer import SetWriter
from skillnet_cli.untrusted import Untrusted, medium
from skillnet_image.config import ImageConfig
from skillnet_image.reader import ImageReader
from tests.faults.corpus import sound_files
from tests.plugins.video.films import film, numbered
from tests.webserver import Server, serving

KINDS = {"image": "a picture", "sound": "a recording", "video": "a clip"}


@pytest.fixture(scope="module")
def files() -> dict[str, tuple[str, bytes]]:
    """Skill -> the suffix and the content of a sound file."""
    found = sound_files()
    return {skill: next(iter(found[skill].items())) for skill in KINDS}


def reading(skill: str) -> Callable[[Any], torch.Tensor]:
    modality = load_registry().modality(skill)
    return resolve(modality.reader)(resolve(modality.config)(), None).read  # type: ignore[no-any-return]


@pytest.fixture(params=KINDS)
def skill(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_s01_a_text_is_no_path(skill: str, files: dict[str, tuple[str, bytes]], tmp_path: Path) -> None:
    suffix, content = files[skill]
    secret = tmp_path / f"secret{suffix}"
    secret.write_bytes(content)
    read = reading(skill)
    assert torch.equal(read(secret), read(content))
    for text in (str(secret), f"file:{secret}", f"file://{secret}", "http://127.0.0.1:1/a", "", "a\0b", "\ud800"):
        with pytest.raises(DamagedItem, match=f"^is a text, not {KINDS[skill]}$"):
            read(text)


@pytest.mark.parametrize("wrong", [None, 3, [b"a"], io.BytesIO(b"a"), bytearray(b"a"), "/etc/passwd"])
def test_s01_only_bytes_and_paths_are_media(wrong: object) -> None:
    assert medium(b"a", "a picture") == b"a" and medium(Path("a"), "a picture") == Path("a")
    with pytest.raises(Untrusted, match=r"^is .+, not a picture$"):
        medium(wrong, "a picture")


def test_s01_a_set_with_a_text_in_the_place_of_a_medium_opens_no_file(
    skill: str, files: dict[str, tuple[str, bytes]], tmp_path: Path
) -> None:
    suffix, content = files[skill]
    secret = tmp_path / f"secret{suffix}"
    secret.write_bytes(content)
    with SetWriter(tmp_path / "data" / "sly", name="sly", licence="none") as writer:
        writer.keep("test", "0", {skill: [str(secret)]}, {})
        writer.finish({})
    (sample,) = PreparedSet.open(tmp_path / "data" / "sly").split("test")
    (source,) = sources_of(sample, skill)
    with pytest.raises(DamagedItem, match="is a text"):
        reading(skill)(source)
    registry = load_registry()
    with pytest.raises(DamagedItem, match="is a text"):
        resolve(str(registry.modality(skill).preview))(source)
    (found,) = find_sources([("sly:test#0", skill)], registry, [tmp_path / "data"]).values()
    write_found("q", [Shown("sly:test#0", 1.0, skill, "", found)], registry, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"cannot be shown: is a text, not {KINDS[skill]}" in page and "data:" not in page.partition("<body")[2]


@pytest.fixture(scope="module")
def server(files: dict[str, tuple[str, bytes]]) -> Iterator[Server]:
    with serving(lambda name: files["video" if "video" in name else "sound"][1]) as running:
        yield running


def lists_of(address: str) -> dict[str, str]:
    """Files of every kind that FFmpeg takes for a list of others."""
    return {
        ".m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
        ".ffconcat": f"ffconcat version 1.0\nfile '{address}'\n",
        ".sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        ".mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet '
        f'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{address}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
        ".asx": f'<asx version="3.0"><entry><ref href="{address}"/></entry></asx>',
        ".pls": f"[playlist]\nFile1={address}\nNumberOfEntries=1\nVersion=2\n",
    }


@pytest.mark.parametrize("skill", ["sound", "video"])
@pytest.mark.parametrize("place", ["file", "server"])
def test_s01_a_list_of_other_files_is_not_followed(
    skill: str, place: str, files: dict[str, tuple[str, bytes]], server: Server, tmp_path: Path
) -> None:
    suffix, content = files[skill]
    (tmp_path / f"secret{suffix}").write_bytes(content)
    address = str(tmp_path / f"secret{suffix}") if place == "file" else f"{server.url}/ok/{skill}{suffix}"
    read = reading(skill)
    for kind, text in lists_of(address).items():
        for name in (f"list{kind}", f"list{kind}{suffix}"):
            (tmp_path / name).write_text(text)
            for source in (text.encode(), tmp_path / name):
                with pytest.raises(DamagedItem):
                    read(source)
    assert not server.asked


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start < end:
        length, name = struct.unpack_from(">I4s", data, start)
        yield name, start, start + length
        start += length


def pointing_elsewhere(data: bytes, secret: Path) -> bytes:
    """A QuickTime file whose pictures lie in another one, which an alias in its table names."""
    path = str(secret).encode()
    alias = bytes(10) + bytes(28) + bytes(12) + bytes(64) + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">hH", -1, 0)
    entry = b"alis" + bytes(4) + alias.ljust(160, b"\0")
    table = b"dref" + struct.pack(">II", 0, 1) + struct.pack(">I", len(entry) + 4) + entry
    table = struct.pack(">I", len(table) + 4) + table

    def rebuilt(start: int, end: int) -> bytes:
        made = b""
        for name, begin, finish in boxes(data, start, end):
            inner = data[begin + 8 : finish]
            if name == b"dref":
                made += table
                continue
            if name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                inner = rebuilt(begin + 8, finish)
            elif name == b"mdat":
                inner = bytes(len(inner))
            made += struct.pack(">I4s", len(inner) + 8, name) + inner
        return made

    return rebuilt(0, len(data))


def test_s01_a_movie_whose_pictures_lie_in_another_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.mov").write_bytes(film(numbered(20), 10, "mov", "mjpeg"))
    sly = pointing_elsewhere((tmp_path / "secret.mov").read_bytes(), tmp_path / "secret.mov")
    (tmp_path / "sly.mov").write_bytes(sly)
    with av.open(  # what FFmpeg does where it is asked to follow
        str(tmp_path / "sly.mov"), container_options={"enable_drefs": "1", "use_absolute_path": "1"}
    ) as followed:
        assert len(list(followed.decode(video=0))) == 20
    for source in (sly, tmp_path / "sly.mov"):
        for each in ("video", "sound"):
            with pytest.raises(DamagedItem):
                reading(each)(source)


def pictures() -> dict[str, Image.Image]:
    random = np.random.default_rng(0)
    plain = Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    clear = Image.fromarray(random.integers(0, 256, (40, 60, 4), dtype=np.uint8))
    palette = plain.quantize(16)
    palette.info["transparency"] = 3
    deep = Image.fromarray(random.integers(0, 65536, (40, 60), dtype=np.uint16))
    modes = {mode: plain.convert(mode) for mode in ("1", "L", "P")}
    return {"RGB": plain, "RGBA": clear, "LA": clear.convert("LA"), "palette": palette, "16 bit": deep, **modes}


def test_u07_a_picture_of_pillow_is_read_as_its_png_is() -> None:
    reader = ImageReader(ImageConfig(resolution=32, patch=16))
    for name, picture in pictures().items():
        file = io.BytesIO()
        picture.save(file, "PNG")
        assert torch.equal(reader.read(picture), reader.read(file.getvalue())), name
        assert torch.equal(reader.read(Image.open(io.BytesIO(file.getvalue()))), reader.read(file.getvalue())), name
    assert reader.read(pictures()["RGB"].convert("CMYK")).shape == (3, 32, 32)


def test_u07_a_picture_of_pillow_that_cannot_be_read_is_damaged() -> None:
    reader = ImageReader(ImageConfig(resolution=32, patch=16))
    file = io.BytesIO()
    pictures()["RGB"].save(file, "PNG")
    with pytest.raises(DamagedItem, match="truncated"):
        reader.read(Image.open(io.BytesIO(file.getvalue()[:3000])))
    with pytest.raises(DamagedItem, match="pixels"):
        reader.read(Image.new("1", (20_000, 10_000)))
    with pytest.raises(DamagedItem, match="pixels"):
        reader.read(Image.new("RGB", (0, 5)))
