"""One sound file of every kind that a command reads, in the folder that a user would have them in, and the commands."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from tests.faults.corpus import sound_files
from tests.five import BATCH, RECIPE, TASKS, make_five
from tests.plugins.sound import corpora

MODEL, SET, RUN = "runs/five/model", "data/five", "runs/five"
QUICK = "--retries 0 --timeout 2"


@dataclass(frozen=True)
class Kind:
    """Files that are spoilt, as patterns in the world, and the commands that read them; ``< FILE`` is their input."""

    paths: Sequence[str]
    commands: Sequence[str]


def prepared(name: str, source: str, *options: str) -> Kind:
    """What is read to prepare a data set from ``src/SOURCE``."""
    words = f"prepare {name} --source src/{source} --out out --workers 1"
    return Kind([f"src/{source}/**/*" if "." not in source else f"src/{source}"], [" ".join((words, *options))])


TRAIN = "finetune five.toml --set finetune.steps=6 --set train.workers=0"
USES = (
    *("inspect", "inspect --json --task t2i", "skills list", f"skills diff base {MODEL}", "search 红 --in c"),
    *("export --skills text,image --to out", f"skills graft image --from {MODEL} --checkpoint base --to out"),
    *("eval --task t2i --split five:train --limit 4", "eval --task asr --split five:train --limit 2 --json"),
    *(
        "embed media --to out",
        "classify 一句话",
        "transcribe media/a.wav --format srt",
        "report runs/five --to out.html",
    ),
    f"{TRAIN} --set name=other --set finetune.start_from={MODEL}",
)
LOOKS = (
    *("data show five", "data show five:train --html out.html --json", "data verify five", "data verify five --json"),
    *("data overlap five:train other:train", "data overlap five --splits --json", "embed five:train --to out"),
    *("eval --task t2i --split five:train --limit 4", "eval --task asr --split five:train --limit 2"),
    *(f"{TRAIN} --set name=other", f"{TRAIN} --set name=other --plan", "prepare vocab --modality text --from five"),
    *("prepare hubert-units --source data/five --out out --clusters 4 --workers 1", "inspect --recipe five.toml"),
)
LOOKS = tuple(f"{each} --size 90 --out out.txt" if each.startswith("prepare vocab") else each for each in LOOKS)
TABLES = {
    "csv": "--task t2i --columns image=file,text=caption",
    "tsv": "--task tc",
    "jsonl": "--task asr",
    "json": "--task t2c",
    "parquet": "--task text-pair --columns text=first,text2=second,label=same",
}
KINDS = {
    "model config": Kind([f"{MODEL}/config.json"], USES),
    "model index": Kind([f"{MODEL}/model.safetensors.index.json"], USES),
    "model weights": Kind([f"{MODEL}/*.safetensors"], USES),
    "model assets": Kind([f"{MODEL}/**/*.txt", f"{MODEL}/README.md"], USES),
    "set manifest": Kind([f"{SET}/manifest.json"], LOOKS),
    "set ledger": Kind([f"{SET}/ledger.jsonl"], LOOKS),
    "set shards": Kind([f"{SET}/*.tar"], LOOKS),
    "set tables": Kind([f"{SET}/*.npy"], LOOKS),
    "run files": Kind(
        [f"{RUN}/results.json", f"{RUN}/recipe.toml", f"{RUN}/finetune/*.json*"],
        [
            "report runs/five",
            "report runs/five runs/again --to out.html",
            "inspect",
            TRAIN,
            "eval --task tc --split five:train",
        ],
    ),
    "checkpoints": Kind(
        ["runs/again/finetune/checkpoints/**/*"],
        [f"{TRAIN} --set name=again", "export --checkpoint runs/again/finetune/checkpoints/step-4 --to out"],
    ),
    "collection": Kind(
        ["c/**/*"],
        [
            "search 红 --in c",
            "search media/a.png --in c --html out.html",
            "embed media --to c",
            "search 红 --in c --json",
            "embed media --to c --prune --json",
        ],
    ),
    "recipe": Kind(
        ["five.toml"],
        [
            "recipes check five.toml",
            "recipes show five.toml --resolved",
            "recipes show five.toml",
            f"{TRAIN} --plan",
            "recipes copy five.toml --to out.toml",
            "inspect --recipe five.toml",
            f"{TRAIN} --set name=other",
            "pretrain five.toml --plan",
            "verify resume five.toml --steps 3",
        ],
    ),
    "vocabularies": Kind(
        ["data/text.txt", "data/code.txt"],
        [
            "recipes check five.toml",
            "inspect --recipe five.toml",
            f"{TRAIN} --set name=other",
            "prepare vocab --modality text --from data/text.txt --out out.txt",
            "prepare vocab --modality code --from data/code.txt --out out.txt",
            "prepare vocab --modality text --kind sentencepiece --from data/text.txt --size 60 --out out.model",
        ],
    ),
    "media": Kind(
        ["media/*"],
        [
            "embed media --to out",
            "transcribe media",
            "transcribe media --format vtt",
            "search FILE --in c",
            "embed FILE --to out --json",
            "transcribe FILE --json",
            "classify FILE",
            "classify media --json",
            "search FILE --in c --html out.html",
        ],
    ),
    "standard input": Kind(
        ["media/a.wav", "media/a.mp3", "media/a.txt", "media/a.mp4"],
        ["transcribe - < FILE", "classify - --json < FILE", "transcribe - --format srt < FILE", "classify - < FILE"],
    ),
    **{
        f"table {kind}": Kind([f"table.{kind}"], [f"prepare table table.{kind} {words} --out out"])
        for kind, words in TABLES.items()
    },
    "files of a table": Kind(
        ["media/a.*"],
        [
            f"prepare table table.csv {TABLES['csv']} --out out --json",
            f"prepare table table.jsonl {TABLES['jsonl']} --out out",
        ],
    ),
    "text-corpus": prepared("text-corpus", "texts"),
    "tnews": prepared("tnews", "tnews.zip"),
    "pytorrent": prepared("pytorrent", "python", "--translator none"),
    "code-pretrain": prepared("code-pretrain", "python", "--disjoint-from none"),
    "aic-icc": prepared("aic-icc", "aic"),
    "aishell": prepared("aishell", "aishell"),
    "speech-corpus": prepared("speech-corpus", "speech"),
    "vatex": Kind(
        ["src/vatex/*", "src/clips.tar"],
        ["prepare vatex --source src/vatex --videos src/clips.tar --out out --workers 1"],
    ),
    "webvid": prepared("webvid", "webvid", QUICK),
    "wukong": prepared("wukong", "wukong", QUICK),
    "demo-functions": prepared("demo-functions", "quotes.whl"),
    "shares of a set": Kind(["shares*/**/*"], ["prepare merge shares"]),
}


def make_world(folder: Path) -> None:
    """Write all of it into a folder that is the working folder."""
    from tests.cases.hostile import command

    make_five(folder / "data")
    shutil.copytree(folder / "data" / "five", folder / "data" / "other")
    tasks = "".join(f'[finetune.tasks.{task}]\ndatasets = ["five"]\nbatch = {BATCH}\n' for task in TASKS)
    (folder / "five.toml").write_text(RECIPE.format(folder="data", steps=6) + tasks, encoding="utf-8")
    _media(folder / "media")
    _tables(folder)
    _sources(folder / "src")
    for words in (
        TRAIN,
        "eval --task tc --split five:train",
        "embed media five:train --to c",
        "export --tasks tc --to base",
        "prepare text-corpus --source src/texts --out shares --shard 1/1",
    ):
        assert command(words.split()) == 0, words
    again = folder / "runs" / "again"
    shutil.copytree(folder / "runs" / "five", again)
    for made in (again / "model", again / "finetune" / "model", again / "finetune" / "checkpoints" / "step-6"):
        shutil.rmtree(made)  # so that it is half done


def _media(folder: Path) -> None:
    folder.mkdir()
    for files in sound_files().values():
        for suffix, content in files.items():
            (folder / f"a{suffix}").write_bytes(content)


def _tables(folder: Path) -> None:
    colours = "红绿蓝黄"
    rows = [
        {"text": f"第{number}句话，{colours[number % 4]}色的", "label": colours[number % 4]} for number in range(30)
    ]
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        pictures = [f"media/a{suffix}" for suffix in (".png", ".jpg", ".webp")]
        csv.writer(file).writerows([("file", "caption"), *((pictures[n % 3], f"第{n}张，很好看") for n in range(9))])
    with (folder / "table.tsv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, dialect="excel-tab").writerows([("text", "label"), *(tuple(row.values()) for row in rows)])
    sounds = [{"sound": f"media/a{suffix}", "transcript": "你好"} for suffix in (".wav", ".flac", ".mp3", ".ogg")]
    (folder / "table.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in sounds))
    functions = [{"code": f"def f{n}(x):\n    return {n}\n", "text": f"返回{n}"} for n in range(30)]
    (folder / "table.json").write_text(json.dumps(functions, ensure_ascii=False))
    pairs = {
        "first": [row["text"] for row in rows],
        "second": [row["label"] for row in rows],
        "same": ["是", "否"] * 15,
    }
    pyarrow.parquet.write_table(pyarrow.table(pairs), folder / "table.parquet")


def _sources(folder: Path) -> None:
    sentences = [f"这是第{n}个足够长的段落，它讲的是编号为{n}的一件小事，没有别的内容。" for n in range(40)]
    documents = [json.dumps({"title": "x", "text": text}, ensure_ascii=False) for text in sentences[30:]]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inside.txt", "\n".join(sentences[20:25]))
    texts = {
        "a.txt": "\n".join(sentences[:9]).encode(),
        "b.txt.gz": gzip.compress("\n".join(sentences[9:20]).encode()),
        "c.jsonl": "\n".join(documents).encode(),
        "d.zip": archive.getvalue(),
        "e.tar.gz": corpora.packed({"inside.txt": "\n".join(sentences[25:30]).encode()}),
    }
    corpora.laid_out(folder / "texts", texts)
    news = [
        json.dumps({"label": str(label), "sentence": text})
        for label, text in zip((108, 104, 116) * 4, sentences, strict=False)
    ]
    with zipfile.ZipFile(folder / "tnews.zip", "w") as file:
        for name in ("train", "dev", "test"):
            file.writestr(f"tnews_public/{name}.json", "".join(f"{line}\n" for line in news))
    _code(folder)
    _speech(folder)
    _pictures(folder)
    _clips(folder)


def _code(folder: Path) -> None:
    lines = "".join(f"    step_{n} = call_{n * 7}(step_{n})\n" for n in range(30))
    bodies = [f"def work_{n}(self):\n    start_{n} = {n}\n{lines}    return start_{n}\n" for n in range(6)]
    records = [
        {
            "repo": "a/b",
            "path": "c.py",
            "func_name": f"work_{n}",
            "language": "python",
            "code": body,
            "docstring": f"完成第{n}号工作",
            "licence": "MIT",
        }
        for n, body in enumerate(bodies)
    ]
    packed = gzip.compress("".join(f"{json.dumps(record)}\n" for record in records).encode())
    corpora.laid_out(folder / "python", {"train/train_0.jsonl.gz": packed, "valid/valid_0.jsonl": b"{}\n"})
    functions = [
        f'def get_{"x" * n}():\n    """获取股票的第{n}种行情数据"""\n    return {n}, "股"\n' for n in range(40)
    ]
    with zipfile.ZipFile(folder / "quotes.whl", "w") as file:
        file.writestr("quotes/chinese.py", "\n\n".join(functions))
    (folder / "python" / "one.whl").write_bytes((folder / "quotes.whl").read_bytes())


def _speech(folder: Path) -> None:
    files, lines = corpora.aishell({"S0002": "train", "S0724": "dev", "S0764": "test"}, each=2)
    corpora.laid_out(folder / "aishell", corpora.aishell_tree(files, lines))
    sounds = {f"train/a{suffix}": content for suffix, content in sound_files()["sound"].items()}
    sounds["transcript.txt"] = "a 你好\n".encode()
    corpora.laid_out(folder / "speech", {**sounds, "dev/b.wav": corpora.wav(0.4)})


def _pictures(folder: Path) -> None:
    picture = sound_files()["image"][".jpg"]
    (folder / "aic").mkdir()
    for split, date in (("train", "20170902"), ("validation", "20170910")):
        stem = f"ai_challenger_caption_{split}_{date}"
        entries = [{"url": "", "image_id": f"{n}.jpg", "caption": ["一张图片", "另一句话"]} for n in range(4)]
        with zipfile.ZipFile(folder / "aic" / f"{stem}.zip", "w") as file:
            file.writestr(f"{stem}/caption_{split}_annotations_{date}.json", json.dumps(entries))
            for n in range(4):
                file.writestr(f"{stem}/caption_{split}_images_{date}/{n}.jpg", picture + bytes([n]))
    rows = "".join(f"http://127.0.0.1:9/{n}.jpg,一张很好看的图片第{n}号\n" for n in range(4))
    corpora.laid_out(folder / "wukong", {"wukong_100m_0.csv": f"url,caption\n{rows}".encode()})


def _clips(folder: Path) -> None:
    clip = sound_files()["video"][".mp4"]
    entries = [{"videoID": f"a{n}_000000_000010", "enCap": ["a clip"], "chCap": ["一个片段"]} for n in range(3)]
    text = json.dumps(entries, ensure_ascii=False).encode()
    corpora.laid_out(folder / "vatex", {f"vatex_{name}_v1.0.json": text for name in ("training", "validation")})
    with tarfile.open(folder / "clips.tar", "w") as archive:
        for entry in entries:
            info = tarfile.TarInfo(f"clips/{entry['videoID']}.mp4")
            info.size = len(clip)
            archive.addfile(info, io.BytesIO(clip))
    head = "videoid,contentUrl,duration,page_dir,name\n"
    rows = "".join(f"{n},http://127.0.0.1:9/{n},PT00H00M01S,000001_000050,a dog runs\n" for n in range(3))
    names = {f"results_2M_{split}.csv": f"{head}{rows}".encode() for split in ("train", "val")}
    corpora.laid_out(folder / "webvid", names)
