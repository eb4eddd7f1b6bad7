"""``skillnet prepare vocab``: a vocabulary, learnt from texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skillnet_cli.cli.common import Data, complete, remark
from skillnet_cli.plugins import load_registry


def vocab(
    skill: Annotated[
        str,
        typer.Option("--modality", help="The skill whose reader will use it.", autocompletion=complete("skills")),
    ],
    from_: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="SET|FILE",
            help="Prepared sets (their train split), or text files.",
            autocompletion=complete("sets"),
        ),
    ],
    out: Annotated[Path, typer.Option(help="File of the new vocabulary.")],
    size: Annotated[int, typer.Option(min=1, help="At most this many entries.")] = 8_000,
    kind: Annotated[
        str | None,
        typer.Option(help="The kind of vocabulary, where the modality has several.", show_default="its plugin's first"),
    ] = None,
    data: Data = None,
) -> None:
    """Learn a vocabulary from texts.

    They come from prepared sets, or from files with one text per line. Plugins name the kinds: word-pieces, characters
    and sentencepiece for text, word-pieces for code. A finished vocabulary of word-pieces, such as a Chinese BERT's
    vocab.txt, is copied as it is when --from names it.

    \b
    Examples:
      skillnet prepare vocab --modality text --from demo-text --size 6000 --out data/demo-vocab/text.txt
      skillnet prepare vocab --modality code --from my-functions --from more-code.txt --out code.txt
    """
    from skillnet_cli.data.prepared import data_roots
    from skillnet_cli.prepare.vocab import prepare_vocab

    said = prepare_vocab(load_registry(), skill, from_, size, out, kind, data_roots(data or ()))
    remark(f"wrote {out}{f': {said}' if said else ''}")
