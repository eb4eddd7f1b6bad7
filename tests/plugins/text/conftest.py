from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest

from skillnet_text.config import TextConfig
from skillnet_text.reader import TextReader
from skillnet_text.vocabulary import SPECIAL_TOKENS

SENTENCES = (
    "这家酒店的服务态度很好，下次还会来！",
    "电池只能用2个小时，Windows XP装不上驱动…",
    "Café 的老板说：“ＡＢＣ 100%退款”",
    "hello unaffable world\t[SEP] 你好\u3000世界\u200b\ufffd\x00!",
    "价格￥1999.00，买3送1（含税）——不值。",
)


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    """Chinese as people write it: mixed scripts, full width, accents, control characters, special tokens spelt out."""
    return SENTENCES


@pytest.fixture(scope="session")
def vocab_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vocabulary in BERT's order that knows most but not all of the sentences."""
    words = ["un", "##aff", "##able", "hello", "world", "windows", "xp", "cafe", "100", "##9", "19", "sep"]
    characters = sorted(set(re.findall(r"[^\sA-Z]", "".join(SENTENCES))) - {"\x00", "退", "驱"})
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_bytes("".join(f"{piece}\n" for piece in [*SPECIAL_TOKENS, *characters, *words]).encode())
    return path


@pytest.fixture
def reader(vocab_file: Path) -> TextReader:
    return TextReader(TextConfig(vocab=vocab_file, max_length=12))


@pytest.fixture(scope="session")
def packs() -> Path:
    folder = os.environ.get("SKILLNET_TEST_PACKS")
    if not folder:
        pytest.skip("SKILLNET_TEST_PACKS names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def headlines(packs: Path) -> list[str]:
    """A thousand real Chinese headlines."""
    with zipfile.ZipFile(packs / "tnews" / "tnews_public.zip") as archive:
        name = next(name for name in archive.namelist() if name.endswith("dev.json"))
        rows = archive.read(name).decode().splitlines()[:1000]
    return [re.search(r'"sentence": "(.*?)", "', row).group(1) for row in rows]  # type: ignore[union-attr]
