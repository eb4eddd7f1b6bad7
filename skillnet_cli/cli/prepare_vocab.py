"""``skillnet prepare vocab``: a vocabulary learnt from texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.cli.completion import skill_names
from skillnet_cli.cli.options import Data
from skillnet_cli.cli.output import remark
from skillnet_cli.plugins import load_registry


def prepare_vocab(
    skill: Annotated[
        str,
        typer.Option("--modality", help="The skill whose reader shall use it.", autocompletion=skill_names),
    ],
    from_: Annotated[
        list[str],
        typer.Option("--from", metavar="SET|FILE", help="Prepared sets (their training part), or text files."),
    ],
    out: Annotated[Path, typer.Option(help="The new vocabulary's file.")],
    size: Annotated[int, typer.Option(min=1, help="At most so many entries.")] = 8_000,
    kind: Annotated[
        str | None,
        typer.Option(help="The kind of vocabulary, where the modality has several.", show_default="its plugin's first"),
    ] = None,
    data: Data = None,
) -> None:
    """Learn a vocabulary from texts.

    They come from prepared sets, or from files with one text a line. The kinds are named by plugins: for text they are
    word-pieces, characters and sentencepiece, for code word-pieces. A vocabulary of word-pieces that is there already,
    such as a Chinese BERT's vocab.txt, is taken as it is when it is what --from names.

    \b
    Examples:
      skillnet prepare vocab --modality text --from demo-text --size 6000 --out data/demo-vocab/text.txt
      skillnet prepare vocab --modality code --from my-functions --from more-code.txt --out code.txt
    """
    from skillnet_cli.data import vocab
    from skillnet_cli.data.prepared import data_roots

    vocab.prepare_vocab(load_registry(), skill, from_, size, out, kind, data_roots(data or ()))
    remark(f"wrote {out}")
