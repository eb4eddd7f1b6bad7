"""A translator for tests, and a process that fills a cache with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from skillnet_cli.api import Translator
from skillnet_cli.plugins import Plugin, build_registry
from skillnet_cli.prepare.translation import Translation, open_translation

REGISTRY = build_registry(
    [Plugin("tests", "skillnet-tests", "1", translators=(Translator("upside", "tests.prepare.upside:Upside"),))]
)


class Upside:
    """Turns a text around; knows nothing of what is shouted."""

    def __init__(self, model: str | None, folder: Path) -> None:
        self.identity = model or "usual"
        self.asked: list[list[str]] = []

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        self.asked.append(list(texts))
        return [None if "!" in text else f"{target} {text[::-1]}" for text in texts]


def open_upside(folder: Path, named: str = "upside") -> Translation:
    translation = open_translation(named, folder, REGISTRY)
    assert translation is not None
    return translation


if __name__ == "__main__":
    translation = open_upside(Path(sys.argv[1]), f"upside={sys.argv[2]}")
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(sys.argv[3]), int(sys.argv[4])):
        translation.translate([f"text {number}"])
        print(number, flush=True)
