"""``skillnet prepare``: from an official layout, or one's own files, to a prepared set."""

from __future__ import annotations

import typer

from skillnet_cli.cli.prepare import dataset, merge, table, vocab
from skillnet_cli.cli.prepare.options import NAME, DatasetCommand, PrepareGroup

app = typer.Typer(cls=PrepareGroup, help="Make a data set, or files of your own, ready for training.")
app.command(NAME, cls=DatasetCommand)(dataset.prepare)
app.command("merge")(merge.merge)
app.command("table")(table.table)
app.command("vocab")(vocab.vocab)
