"""Vocabularies and translation models as people and tools have written them, and as somebody has damaged them."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skillnet_cli.api import UserError
from skillnet_text.translation.marian import Marian
from skillnet_text.vocabulary import SPECIAL_TOKENS, Vocabulary

PIECES = (*SPECIAL_TOKENS, "红", "##色", "▁x", "\u2028")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("scores", [False, True])
def test_m06_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_vocabulary(
    tmp_path: Path, mark: str, end: str, scores: bool
) -> None:
    lines = [f"{piece}\t-{number}.5" if scores else piece for number, piece in enumerate(PIECES)]
    path = tmp_path / "vocab.txt"
    path.write_bytes((mark + "".join(line + end for line in lines)).encode())
    found = Vocabulary.load(path)
    assert found.pieces == PIECES
    assert found.scores == (tuple(-number - 0.5 for number in range(len(PIECES))) if scores else None)
    found.save(tmp_path / "saved.txt")
    assert (tmp_path / "saved.txt").read_bytes().decode().split("\n")[0].startswith("[PAD]")


@pytest.mark.parametrize("score", ["nan", "inf", "x", ""])
def test_m06_scores_are_finite_numbers(tmp_path: Path, score: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{piece}\t{score}\n" for piece in PIECES))
    with pytest.raises(UserError, match="not always a number after it"):
        Vocabulary.load(path)


def test_s05_a_vocabulary_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "pipe", "a named pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(UserError, match=why):
            Vocabulary.load(path)


@pytest.fixture(scope="session")
def opus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentencepiece", reason="the extra 'translate' is not installed")
    from tests.plugins.text.marian_model import make_marian

    return make_marian(tmp_path_factory.mktemp("models") / "opus")


@pytest.fixture(params=["transformers", "ctranslate2"])
def damaged(request: pytest.FixtureRequest, opus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the model to be damaged, for either engine."""
    if request.param == "transformers":
        found = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ctranslate2" else found(name))
    else:
        pytest.importorskip("ctranslate2", reason="the extra 'translate' is not installed")
    return Path(shutil.copytree(opus, tmp_path / "opus"))


def translated(model: Path) -> str:
    """What the translator says to a text, or of its model."""
    try:
        return str(Marian(str(model), model.parent / "cache").translate(["the cat sits"], "en", "zh"))
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)


def edited(name: str, **changes: object) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        document = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(document | changes))

    return edit


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda model: void((model / name).write_bytes(content))


def void(_: object) -> None:
    """For functions that shall return nothing."""


DAMAGE = {
    "config deep": written("config.json", b"[" * 20_000),
    "config no table": written("config.json", b"3"),
    "config of another kind": edited("config.json", model_type="bert"),
    "layers": edited("config.json", encoder_layers=10**9),
    "width": edited("config.json", d_model=17),
    "positions": edited("config.json", max_position_embeddings="x"),
    "vocabulary deep": written("vocab.json", b'{"a":' * 20_000),
    "vocabulary of text": written("vocab.json", b'{"</s>": "x"}'),
    "vocabulary without ends": written("vocab.json", b'{"a": 0}'),
    "pieces": written("source.spm", b"\xff" * 100),
    "pieces empty": written("target.spm", b""),
    "weights": written("model.safetensors", b"\xff" * 100),
    "weights gone": lambda model: (model / "model.safetensors").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_s04_a_damaged_translation_model_is_one_line(damaged: Path, damage: str) -> None:
    DAMAGE[damage](damaged)
    assert translated(damaged).startswith("translator 'marian': "), translated(damaged)


def test_s04_flipped_bits_in_a_translation_model_are_one_line(damaged: Path, opus: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("config.json", "vocab.json", "source.spm", "target.spm"):
        content = bytearray((opus / name).read_bytes())
        for place in rng.integers(0, len(content), 8):
            content[place] ^= 1 << rng.integers(8)
        (damaged / name).write_bytes(bytes(content))
        assert translated(damaged)
        shutil.copy(opus / name, damaged / name)


class Canary:
    """What a pickle may do to who reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_s04_a_pickled_translation_model_is_never_read(damaged: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (damaged / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(canary)))
    assert "[" in translated(damaged)  # beside safetensors it is passed over
    (damaged / "model.safetensors").unlink()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert "has no model.safetensors, and pickled weights are never read" in translated(damaged)
    assert not canary.exists()
