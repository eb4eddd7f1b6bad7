"""Tasks of text pairs: two texts read as one, from a table to training, figures and labels."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.bert.tokenization_bert import BertTokenizer

from skillnet_cli.api import DamagedItem, Task, UserError, collect_remarks
from skillnet_cli.cli.app import run
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.pipeline import TaskPipeline
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.objectives import Targets, TaskConfig
from skillnet_cli.plugins import load_registry
from skillnet_code.config import CodeConfig
from skillnet_code.learn import learn_vocabulary as learn_code
from skillnet_code.reader import CodeReader
from skillnet_text.config import TextConfig
from skillnet_text.learn import learn_vocabulary
from skillnet_text.reader import TextReader

PAIRS = (
    ("花呗如何还款", "花呗怎么还款？"),
    ("这家 hotel 的服务很好", "2 stars, unaffable"),
    ("a [B] c", "（全角）ＡＢＣ"),
    ("短", "长" * 30),
)
NOISE = "天地人你我他山水火"
RECIPE = """
name = "pairs"
[model]
layers = 1
hidden = 32
heads = 2
ffn = 64
[model.embedders.text]
vocab = "vocab.txt"
max_length = 24
[train]
precision = "fp32"
workers = 0
[finetune]
steps = 120
lr = 5e-3
warmup = 10
start_from = "fresh"
[finetune.tasks.text-pair]
datasets = ["questions"]
batch = 32
"""


@pytest.fixture(scope="module")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    learn_vocabulary([" ".join(text for pair in PAIRS for text in pair)] * 3, 300, path)
    return path


def pipeline(reader: Any, pairs: tuple[str, ...] = ("text",), skill: str = "text") -> TaskPipeline:
    task = TaskConfig("p", towers=((skill,),), objective="classification", pairs=pairs)
    return TaskPipeline(task, {skill: reader}, Targets(task, {skill: reader}))


def test_a06_ids_and_segments_are_those_of_transformers_but_for_the_last_separator(vocab: Path) -> None:
    reader = TextReader(TextConfig(vocab=vocab, max_length=64, nfkc=False))
    theirs = BertTokenizer(vocab=str(vocab), do_lower_case=True)
    read = pipeline(reader)
    samples = [{"id": str(place), "text": a, "text2": b} for place, (a, b) in enumerate(PAIRS)]
    batch = read.batch([read.example(sample, epoch=None) for sample in samples]).towers[0][0]
    lengths = batch["lengths"].tolist()
    for (first, second), ids, segments in zip(
        PAIRS, batch["ids"].split(lengths), batch["segments"].split(lengths), strict=True
    ):
        right = theirs(first, second)
        assert right["input_ids"][-1] == reader.vocabulary.sep_id
        assert ids.tolist() == right["input_ids"][:-1]
        assert segments.tolist() == right["token_type_ids"][:-1]


def test_a06_training_hides_pieces_and_never_the_separator(vocab: Path) -> None:
    reader = TextReader(TextConfig(vocab=vocab, word_dropout=0.6))
    plain = reader.read_pair(*PAIRS[0])
    special = torch.isin(plain, torch.tensor([reader.vocabulary.cls_id, reader.vocabulary.sep_id]))
    seen = torch.stack([reader.read_pair(*PAIRS[0], np.random.default_rng(seed)) for seed in range(40)])
    hidden = seen == reader.vocabulary.mask_id
    assert not hidden[:, special].any() and hidden[:, ~special].any(0).all()


def test_a06_a_pair_that_is_cut_is_remarked(vocab: Path) -> None:
    reader = TextReader(TextConfig(vocab=vocab, max_length=12))
    with collect_remarks() as remarks:
        assert len(reader.read_pair(*PAIRS[3])) == 12
    assert any("longer than 12 tokens" in text for text in remarks)
    with collect_remarks() as remarks:
        assert len(reader.read_pair("短", "长" * 9)) == 12
    assert not remarks


def test_a06_an_item_that_lacks_its_second_text_is_damaged(vocab: Path) -> None:
    read = pipeline(TextReader(TextConfig(vocab=vocab)))
    with pytest.raises(DamagedItem, match="no field 'text2'"):
        read.example({"id": "1", "text": "好"}, epoch=None)
    with pytest.raises(DamagedItem, match="empty"):
        read.example({"id": "1", "text": "好", "text2": " "}, epoch=None)


def test_a06_pairs_that_no_reader_or_task_can_have_are_refused(tmp_path: Path) -> None:
    learn_code(["def f(): pass\n"] * 3, 600, tmp_path / "code.txt")
    with pytest.raises(UserError, match="skill 'code' reads no pairs"):
        pipeline(CodeReader(CodeConfig(vocab=tmp_path / "code.txt")), ("code",), "code")
    task = Task("t", towers=(("text",),), objective="classification")
    with pytest.raises(UserError, match="'image' is no skill of the task"):
        replace(task, pairs=("image",))
    with pytest.raises(UserError, match="only a task of one tower"):
        replace(task, towers=(("text",), ("image",)), pairs=("text",))


def skillnet(*words: str, code: int = 0) -> tuple[str, str]:
    load_registry.cache_clear()
    printed, said = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(said):
        ended = run(words)
    assert ended == code, (ended, printed.getvalue(), said.getvalue())
    return printed.getvalue(), said.getvalue()


def sentence(rng: random.Random, mark: str) -> str:
    text = rng.choices(NOISE, k=4)
    text[rng.randrange(4)] = mark
    return "".join(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A table whose labels are the marks of both texts in their order: either text alone tells half of a label."""
    folder, rng = tmp_path_factory.mktemp("pairs"), random.Random(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SKILLNET_PLUGINS", "text")
        with Path("questions.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["a", "b", "same"])
            for _ in range(600):
                first, second = rng.choice("红绿"), rng.choice("红绿")
                rows.writerow([sentence(rng, first), sentence(rng, second), first + second])
            rows.writerows(
                [["天地", "好", "红红"], ["天地", "坏", "红绿"], ["天地", "坏", "红绿"], ["天地", "", "红绿"]]
            )
        columns = ("--columns", "text=a,text2=b,label=same")
        skillnet("prepare", "table", "questions.csv", "--task", "text-pair", *columns, "--out", "data/questions")
        skillnet(
            "prepare",
            "vocab",
            "--modality",
            "text",
            "--kind",
            "characters",
            "--from",
            "questions",
            "--out",
            "vocab.txt",
        )
        Path("recipe.toml").write_text(RECIPE, encoding="utf-8")
        skillnet("finetune", "recipe.toml")
        yield folder
    load_registry.cache_clear()


def test_a06_a_table_of_pairs_keeps_every_pair_once(folder: Path) -> None:
    with (folder / "questions.csv").open(encoding="utf-8", newline="") as file:
        truth = {(row["a"], row["b"]): row["same"] for row in csv.DictReader(file) if row["b"]}
    prepared = PreparedSet.open(folder / "data" / "questions")
    samples = [sample for name in prepared.manifest.splits for sample in prepared.split(name)]
    assert {(each["text"], each["text2"]): each["label"] for each in samples} == truth
    assert len(samples) == len(truth)
    reasons = [row.reason for row in read_ledger(folder / "data" / "questions")]
    assert sum("the same text and text2 as in row" in reason for reason in reasons) == 604 - 1 - len(truth)
    assert sum("the column 'b' is empty" in reason for reason in reasons) == 1


def test_a06_the_vocabulary_of_a_set_of_pairs_is_that_of_both_texts(folder: Path) -> None:
    prepared = PreparedSet.open(folder / "data" / "questions")
    characters = {one for sample in prepared.split("train") for one in sample["text"] + sample["text2"]}
    assert characters <= set((folder / "vocab.txt").read_text(encoding="utf-8").split("\n"))


def test_a06_it_learns_what_only_both_texts_tell(folder: Path) -> None:
    (result,) = json.loads(skillnet("eval", "--task", "text-pair", "--json")[0])["results"]
    assert result["items"] >= 50
    assert result["metrics"]["accuracy"] > 0.9  # either text alone: 0.5


def test_a06_pairs_are_classified_and_their_order_matters(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = ["天红人你\t我他绿水", "天绿人你\t我他红水", "天绿人你\t我他绿水"]
    document = json.loads(skillnet("classify", *pairs, "--json")[0])
    assert [row["labels"][0]["label"] for row in document["items"]] == ["红绿", "绿红", "绿绿"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(pairs).encode())))
    piped = json.loads(skillnet("classify", "-", "--json")[0])
    assert [row["labels"] for row in piped["items"]] == [row["labels"] for row in document["items"]]
    assert "a pair is two texts with one tab between them" in skillnet("classify", "天红人你", code=2)[1]
    (folder / "one.txt").write_text("天红人你", encoding="utf-8")
    assert "one.txt: it is a file, and a pair is two texts" in skillnet("classify", "one.txt", code=1)[1]


def test_a06_a_set_of_single_texts_is_refused(folder: Path) -> None:
    columns = ("--columns", "text=a,label=same")
    skillnet("prepare", "table", "questions.csv", "--task", "tc", *columns, "--out", "data/single")
    Path("single.toml").write_text(
        RECIPE.replace("questions", "single").replace('"pairs"', '"single"'), encoding="utf-8"
    )
    assert "data set 'single' has no text2" in skillnet("finetune", "single.toml", code=2)[1]


def test_a06_the_report_shows_both_texts(folder: Path) -> None:
    skillnet("report")
    page = next(folder.glob("runs/**/report.html")).read_text(encoding="utf-8")
    shown = [each for each in PreparedSet.open(folder / "data" / "questions").split("test") if each["text2"] in page]
    assert any(each["text"] in page for each in shown)
