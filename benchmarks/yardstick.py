"""A yardstick for changes that must not change behaviour: what skillnet does to fixed data, to the bit.

    python benchmarks/yardstick.py --python OTHER/.venv/bin/python --out before.txt
    python benchmarks/yardstick.py compare before.txt after.txt

Only the command line of the measured skillnet is used, in a temporary folder, on data that is made up anew; with
SKILLNET_TEST_PACKS, a folder of real data in the publishers' layouts, small parts of that are prepared too. Each fact
is a line ``name = value``:

* of a training: for each column of its updates a sha256 of all values (floats as ``float.hex``) and the last one; its
  other rows; each file of its model, and of its last checkpoint, as the names, types and bytes of its tensors;
* of a prepared set: the sha256 of each of its files;
* what ``eval``, ``search``, ``transcribe`` and other commands answer, and the files that they make.

A command that fails is a fact too. Left out are what clocks say (seconds, rates, memory), where a run was begun and
saved, model cards, and the files of a collection, whose names are random: searches stand for them. Everything runs on
one thread a process in fp32, so two runs on one machine give the same lines. Two processes run at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yardstick_sources import write_published, write_tables

KEYS = {"old": {"start_from": "init"}, "new": {"start_from": "start_from"}}
"""Keys of a recipe's [finetune] that have had two names."""

RENAMED = {"log_scale": "logit_scale", '"fresh":': '"newly_initialised":'}
"""Words in names of tensors and in files that were changed on purpose: the old one is read as the new one."""

FINGERPRINT = re.compile(r'"model": "[0-9a-f]{16}"')
"""A model's name for its exact files. It changes with the name of a tensor; the tensors are compared one by one."""

CLOCKS = {"seconds", "data_wait", "samples_per_second", "tflops", "of_peak", "memory"}
"""What an update's row has of clocks and machines. Rows of the kinds in EVENTS tell of nothing else."""

EVENTS = {"start", "saved"}

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
    "PYTHONUTF8": "1", "PYTHONHASHSEED": "0", "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb",
    "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip

MODEL = "runs/skill/model"
"""What commands use that are asked for no other model."""

RECIPE = """
name = "yardstick"
seed = 3
[model]
layers = 2
hidden = 64
heads = 4
ffn = 128
dropout = 0.1
[model.embedders]
text = { vocab = "vocab/text.txt", max_length = 48, word_dropout = 0.1 }
sound = { channels = 16, max_seconds = 2.0, max_positions = 100 }
image = { resolution = 32, patch = 16 }
video = { resolution = 32, frames = 3 }
code = { vocab = "vocab/code.txt", max_length = 96 }
[train]
precision = "fp32"
checkpoints = { every = 4, keep = 2 }
eval = { every = 10, items = 6 }
"""
PRETRAIN = {"mlm": "texts", "units": "units", "image-text": "pictures", "video-text": "clips", "code-mlm": "functions"}
FINETUNE = {"tc": "texts", "asr": "speech", "t2i": "pictures", "t2v": "clips", "t2c": "functions"}
STEPS = 10
"""Of a stage: each of its five tasks comes up twice."""

MICRO = [f"finetune.tasks.{task}.micro_batch=4" for task in FINETUNE] + ["finetune.tasks.t2i.recompute=true"]
FRESH = "finetune.START=fresh"
TRAININGS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "skill": (("pretrain", "finetune"), ["train.checkpoints.best=['tasks', 'mean']", "train.eval.every=5"]),
    "dense": (("pretrain", "finetune"), ["model.routing=dense", "train.workers=0"]),
    "moe": (("pretrain", "finetune"), ["model.routing=moe", "train.workers=2"]),
    "separate": (("pretrain", "finetune"), ["model.routing=separate", "train.workers=0"]),
    "post": (
        ("pretrain", "finetune"),
        ["model.norm=post", "model.routed=['qkv', 'out', 'ffn', 'norm']", "model.activation=gelu",
         "model.similarity=dot", "pretrain.tasks.mlm.datasets={texts = 1.0, functions = 2.0}",
         "pretrain.tasks.units.ratio=2", "train.workers=0"],
    ),
    "micro": (("finetune",), [FRESH, *MICRO, "train.schedule=constant", "train.clip=0.1", "train.workers=0"]),
    "ema": (
        ("finetune",),
        [FRESH, "train.average={kind = 'ema', decay = 0.9}", "train.freeze=['shared', 'embedder:image']"],
    ),
    "last": (("finetune",), [FRESH, "train.average={kind = 'last', count = 2}", "train.freeze=['skill:text']"]),
    "clip": (("finetune",), [FRESH, "init.image=donors/clip", "init.sound={from = 'donors/wav2vec', shared = false}"]),
    "bert": (("pretrain",), ["init.text=donors/bert", "model.norm=post", "model.activation=gelu"]),
    "begun": (("finetune",), [FRESH, "finetune.steps=1", "finetune.lr=1e-9", "finetune.warmup=0"]),
    "killed": (("pretrain",), ["pretrain.steps=40", "train.checkpoints.every=10"]),
    "stopped": (("finetune",), [FRESH, "finetune.steps=40", "train.checkpoints.every=10"]),
    "ranks2-replicate": (("pretrain",), ["train.strategy=replicate"]),
    "ranks2-fsdp": (("finetune",), [FRESH, "train.strategy=fsdp", *MICRO]),
    "ranks2-moe-fsdp": (("pretrain",), ["model.routing=moe", "train.strategy=fsdp"]),
    "ranks2-separate-replicate": (
        ("finetune",), [FRESH, "model.routing=separate", "train.strategy=replicate", *MICRO, "train.debug=true"],
    ),
    "ranks2-killed-fsdp": (
        ("finetune",), [FRESH, "train.strategy=fsdp", "finetune.steps=20", "train.checkpoints.every=5"],
    ),
}  # fmt: skip
"""Name -> its stages, what it sets otherwise than RECIPE; ``ranks2`` are trained by two processes, ``killed`` and
``stopped`` by SIGKILL and SIGTERM and gone on with; ``begun`` is what transcribes, since a model that has learnt a
little hears nothing but blanks. START is a key of KEYS."""

TABLES = {
    "texts": ("texts.csv", "tc", "--split-column part"),
    "speech": ("speech.jsonl", "asr", "--split-column part"),
    "pictures": ("pictures.parquet", "t2i", "--columns image=file,text=caption --shares train=0.7,dev=0.2,test=0.1"),
    "clips": ("clips.tsv", "t2v", "--split-column part"),
    "functions": ("functions.jsonl", "t2c", "--columns id=id --split-column part --licence MIT"),
    "texts-limited": ("texts.csv", "tc", "--limit 5 --seed 4"),
}
PUBLISHED = {
    "tnews": "tnews --source published/tnews.zip",
    "text-corpus": "text-corpus --source published/text --workers 2",
    "text-corpus-short": "text-corpus --source published/text/a.txt --join 8 --length 60 --seed 5",
    "aishell": "aishell --source published/data_aishell.tgz",
    "aishell-limited": "aishell --source published/data_aishell.tgz --limit 2",
    "speech-own": "speech-corpus --source published/own --task units",
    "units-own": "hubert-units --source made/speech-own --clusters 7",
    "units-by-centres": "hubert-units --source made/aishell --centres made/units-own/assets/centres.safetensors",
    **{
        f"speech-{preset}": f"speech-corpus --preset {preset} --source published/{preset}.tar.gz"
        for preset in ("aidatatang-200zh", "magicdata", "primewords", "st-cmds", "thchs-30")
    },
    "aic-paper": "aic-icc --source published/aic --split paper",
    "aic-official": "aic-icc --source published/aic --split official --side 24",
    "wukong": "wukong --source published/wukong --images published/wukong-images --shard-rows 5",
    "vatex-paper": "vatex --source published/vatex --videos published/clips.tar --split paper --side 32",
    "vatex-official": "vatex --source published/vatex --videos published/clips.tar --split official",
    "webvid": "webvid --source published/webvid --videos published/webvid-clips --shard-rows 4",
    "pytorrent": "pytorrent --source published/code --split official",
    "pytorrent-paper": "pytorrent --source published/code --split paper --limit 30",
    "pytorrent-wheel": "pytorrent --source published/quotes-1.0-py3-none-any.whl",
    "code-pretrain": "code-pretrain --source published/code --disjoint-from made/pytorrent-paper",
    "demo-functions": "demo-functions --source published/quotes-1.0-py3-none-any.whl",
    "demo-code": "demo-code --source published/quotes-1.0-py3-none-any.whl",
}
"""Name -> what ``prepare`` is asked; a set that another one is made of stands before it."""

PACKS = {
    "pack-tnews": "tnews --source PACKS/tnews/tnews_public.zip --limit 1000",
    "pack-text": "text-corpus --source PACKS/text/d2l_zh.txt.gz --source PACKS/text/howtocook.txt.gz",
    "pack-aishell": "aishell --source PACKS/speech/data_aishell_sample.tgz",
    "pack-words": "speech-corpus --source PACKS/speech/mandarin_words.tar --task asr --limit 100",
    "pack-syllables": "speech-corpus --source PACKS/speech/mandarin_syllables.tar --task units --limit 100",
    "pack-units": "hubert-units --source made/pack-syllables --clusters 20",
    "pack-aic": "aic-icc --source PACKS/aic-icc --split paper --limit 100",
    "pack-vatex": "vatex --source PACKS/vatex --split paper --limit 60",
    "pack-pytorrent": "pytorrent --source PACKS/pytorrent --limit 500",
    "pack-code-pretrain": "code-pretrain --source PACKS/pytorrent --limit 500 --disjoint-from made/pack-pytorrent",
}
VERBS = {
    **{f"eval-{task}": f"eval --task {task} --split {name}:dev --json" for task, name in FINETUNE.items()},
    "eval-limited": "eval --task t2i --split pictures:train --split pictures:dev --json --limit 9",
    "embed": "embed pictures:dev texts:dev functions:dev clips:dev speech:dev --to collection --json",
    "search-text": "search 红色的方块 --in collection --top 6 --json",
    "search-picture": "search raw/pictures/3.png --in collection --top 6 --skill text --skill image --json",
    "transcribe": "transcribe raw/wav/1.wav published/own/train/long.wav --json --checkpoint runs/begun/model",
    "transcribe-srt": "transcribe published/own/train/long.wav --format srt --checkpoint runs/begun/model",
    "inspect": "inspect --json",
    "skills-list": "skills list --json",
    "export": "export --skills text,image --tasks t2i --to exported --json",
    "export-checkpoint": f"export --checkpoint runs/skill/pretrain/checkpoints/step-{STEPS} --to early --json",
    "graft": f"skills graft sound --checkpoint exported --from {MODEL} --to merged --json",
    "graft-like": "skills graft video --checkpoint exported --like image --set resolution=32 --to grown",
    "diff": f"skills diff merged {MODEL} --json",
    "show": "data show texts --json",
    "verify": "data verify speech --json",
    "overlap": "data overlap texts pictures:dev functions --splits --json",
    "inspect-recipe": "inspect --recipe recipe.toml --json",
}
DONORS = """
import torch
from transformers import BertConfig, BertModel, CLIPVisionConfig, CLIPVisionModel, Wav2Vec2Config, Wav2Vec2Model
sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
small = dict(conv_dim=(16,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
layer = dict(feat_extract_norm="layer", conv_bias=True)
words = len(open("vocab/text.txt", encoding="utf-8").read().splitlines())
for name, kind, config in (
    ("clip", CLIPVisionModel, CLIPVisionConfig(**sizes, image_size=48, patch_size=16)),
    ("bert", BertModel, BertConfig(**sizes, vocab_size=words, max_position_embeddings=64)),
    ("wav2vec", Wav2Vec2Model, Wav2Vec2Config(**sizes, **small, **layer)),
):
    torch.manual_seed(7)
    kind(config).save_pretrained(f"donors/{name}")
"""

Facts = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Bench:
    """A temporary folder, the interpreter whose skillnet is measured, and how recipes are written for it."""

    folder: Path
    python: str
    keys: Mapping[str, str]
    environment: dict[str, str] = field(default_factory=lambda: _environment())

    def start(self, *words: str) -> subprocess.Popen[str]:
        """``python WORDS`` in the folder; processes that it starts are of its group."""
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [self.python, *words], cwd=self.folder, env=self.environment, text=True, start_new_session=True, **pipes
        )

    def say(self, *words: str) -> str:
        """What ``skillnet WORDS`` answers. Raises RuntimeError where it fails."""
        return finished(self.start("-m", "skillnet_cli", *words))

    def train(self, run: str, stage: str, changes: Sequence[str]) -> subprocess.Popen[str]:
        """A stage of a run that has begun, or goes on."""
        changes = [f"name={run}", *(change.replace("START", self.keys["start_from"]) for change in changes)]
        words = [word for change in changes for word in ("--set", change)]
        nproc = "2" if run.startswith("ranks2") else "1"
        return self.start("-m", "skillnet_cli", stage, "recipe.toml", "--data", "made", "--nproc", nproc, *words)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SKILLNET_", "PYTHON"))}
    return {**kept, **ENVIRONMENT, "SKILLNET_DATA": "made", "SKILLNET_CACHE": "cache", "SKILLNET_CHECKPOINT": MODEL}


def finished(process: subprocess.Popen[str]) -> str:
    """What a process printed. Raises RuntimeError with its last line of errors where it failed."""
    out, errors = process.communicate()
    if process.returncode:
        lines = errors.strip().splitlines() or [""]
        raise RuntimeError(f"exit code {process.returncode}: {lines[-1]}")
    return out


def sha(content: bytes | str) -> str:
    """The sha256, its first 20 digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:20]


def exact(value: Any) -> Any:
    """JSON with its floats as hex."""
    if isinstance(value, Mapping):
        return {key: exact(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [exact(each) for each in value]
    return value.hex() if isinstance(value, float) else value


def read_as_new(text: str) -> str:
    """A text with the words of RENAMED as they are now, and without fingerprints."""
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    return FINGERPRINT.sub('"model": "…"', text)


def index(path: Path) -> str:
    """A sha256 of what a model's index says of its tensors; those of its files change with a tensor's name."""
    document = json.loads(read_as_new(path.read_text(encoding="utf-8")))
    document["metadata"].pop("sha256")
    return sha(json.dumps(document, sort_keys=True))


def tensors(path: Path) -> str:
    """A sha256 of the names, types, shapes and bytes of a safetensors file, without its metadata."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    total = hashlib.sha256()
    for name, each in sorted((read_as_new(name), each) for name, each in header.items()):
        begin, end = each["data_offsets"]
        total.update(f"{name} {each['dtype']} {each['shape']}".encode() + content[start + begin : start + end])
    return f"{total.hexdigest()[:20]} {len(header)} tensors"


def files(name: str, folder: Path) -> Facts:
    """The sha256 of every file below a folder but pages; of safetensors what their tensors are."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "README.md" and ".work" not in path.parts:
            kinds = {".safetensors": tensors, ".json": index if path.name.endswith(".index.json") else None}
            read = kinds.get(path.suffix)
            value = read(path) if read else sha(path.read_bytes())
            yield f"{name}/{path.relative_to(folder).as_posix()}", value


def condensed(name: str, folder: Path) -> Facts:
    """One line for all files of a folder but config.json, and one for that."""
    found = dict(files(name, folder))
    config = found.pop(f"{name}/config.json", None)
    yield name, f"{sha(json.dumps(found))} {len(found)} files"
    if config:
        yield f"{name}/config.json", config


def training(bench: Bench, run: str) -> Facts:
    """Train a run of TRAININGS, and all that its stages wrote."""
    stages, changes = TRAININGS[run]
    for stage in stages:
        folder = bench.folder / "runs" / run / stage
        if "killed" in run or run == "stopped":
            interrupt(bench.train(run, stage, changes), folder, signal.SIGTERM if run == "stopped" else signal.SIGKILL)
        finished(bench.train(run, stage, changes))
        yield from updates(f"{run}/{stage}", folder / "metrics.jsonl")
        last = max(folder.glob("checkpoints/step-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        for path in sorted(last.glob("*.safetensors")):
            yield f"{run}/{stage}/last checkpoint/{path.name}", tensors(path)
        for path in sorted(folder.glob("init.json")):
            yield f"{run}/{stage}/init.json", sha(read_as_new(path.read_text(encoding="utf-8")))
        for best in sorted(folder.glob("best/**/config.json")):
            yield from condensed(f"{run}/{stage}/{best.parent.relative_to(folder)}", best.parent)
        told = files if stage == stages[-1] else condensed
        yield from told(f"{run}/{stage}/model", bench.folder / "runs" / run / "model")
    for path in sorted((bench.folder / "runs" / run).glob("results.json")):
        yield f"{run}/results", read_as_new(json.dumps(exact(json.loads(path.read_bytes())), ensure_ascii=False))


def interrupt(process: subprocess.Popen[str], folder: Path, number: signal.Signals) -> None:
    """End a training after its first checkpoint: by SIGTERM to the first process, by SIGKILL to all that it started.

    Raises RuntimeError where it had ended by then.
    """
    while process.poll() is None and not list(folder.glob("checkpoints/*/complete.json")):
        time.sleep(0.02)
    for each in family(process.pid) if number == signal.SIGKILL else [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)
    process.communicate()
    if process.returncode == 0:
        raise RuntimeError("its training ended before it could be interrupted")


def family(process: int) -> list[int]:
    """A process and all that it has started, by /proc: ranks are in groups of their own."""
    started = [path.read_text().split() for path in Path(f"/proc/{process}/task").glob("*/children")]
    return [process, *(each for children in started for child in children for each in family(int(child)))]


def updates(name: str, path: Path) -> Facts:
    """Each column of a metrics.jsonl's updates, and its other rows."""
    rows = [exact(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    for key in sorted({key for row in trained for key in row} - {"kind", *CLOCKS}):
        column = [row.get(key) for row in trained]
        yield f"{name}/{key}", f"{sha(json.dumps(column))} {len(column)} values, last {column[-1]}"
    for row in rows:
        if row["kind"] not in {"train", *EVENTS}:
            yield f"{name}/{row.pop('kind')} {row.pop('step')} {row.pop('task', '')}".strip(), json.dumps(row)


def prepared(bench: Bench, name: str) -> Facts:
    """Prepare one of PUBLISHED or PACKS."""
    words = (PUBLISHED | PACKS)[name].replace("PACKS", os.environ.get("SKILLNET_TEST_PACKS", "")).split()
    workers = [] if "--workers" in words else ["--workers", "1"]
    tolerance = [] if words[0].startswith("demo-") else ["--max-damaged", "1"]
    bench.say("prepare", *words, "--out", f"made/{name}", *tolerance, *workers)
    yield from files(f"set {name}", bench.folder / "made" / name)


def merged(bench: Bench, name: str) -> Facts:
    """A set prepared in two shares and put together."""
    for share in ("2/2", "1/2"):
        bench.say("prepare", "text-corpus", "--source", "published/text", "--out", f"made/{name}", "--shard", share)
    bench.say("prepare", "merge", f"made/{name}")
    yield from files(f"set {name}", bench.folder / "made" / name)


def verb(bench: Bench, name: str) -> Facts:
    """What a command of VERBS answers, and the model that it makes."""
    words = VERBS[name].split()
    answer = bench.say(*words)
    with contextlib.suppress(ValueError):
        answer = json.dumps(exact(json.loads(answer)), ensure_ascii=False)
    answer = read_as_new(answer)
    yield f"verb {name}", f"{sha(answer)} {answer[:300]!r}"
    if "--to" in words and words[0] != "embed":
        yield from files(f"verb {name}/model", bench.folder / words[words.index("--to") + 1])


def materials(bench: Bench, name: str) -> Facts:
    """The sets and vocabularies that models are trained on, and pretrained models to start from."""
    write_tables(bench.folder / "raw")
    write_published(bench.folder / "published")
    (bench.folder / "recipe.toml").write_text(recipe(), encoding="utf-8")
    for made in ("raw", "published"):
        yield from condensed(f"{name}/{made}", bench.folder / made)

    def table(name: str) -> str:
        file, task, words = TABLES[name]
        return bench.say("prepare", "table", f"raw/{file}", "--task", task, *words.split(), "--out", f"made/{name}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(table, TABLES))
    bench.say("prepare", "hubert-units", "--source", "made/speech", "--clusters", "12", "--out", "made/units")
    yield from files(f"{name}/sets", bench.folder / "made")
    for skill, size, sources in (("text", 300, ["texts", "functions"]), ("code", 400, ["functions"])):
        said = [word for source in sources for word in ("--from", source)]
        bench.say("prepare", "vocab", "--modality", skill, "--size", str(size), *said, "--out", f"vocab/{skill}.txt")
    for kind in ("characters", "sentencepiece"):
        bench.say("prepare", "vocab", "--modality", "text", "--kind", kind, "--size", "80", "--from", "texts",
                  "--out", f"vocab/{kind}.txt")  # fmt: skip
    yield from files(f"{name}/vocab", bench.folder / "vocab")
    finished(bench.start("-c", DONORS))
    yield from files(f"{name}/donors", bench.folder / "donors")


def recipe() -> str:
    """RECIPE with both stages."""
    stages = {"pretrain": PRETRAIN, "finetune": FINETUNE}
    head = "".join(f"[{stage}]\nsteps = {STEPS}\nlr = 1e-3\nwarmup = 3\n" for stage in stages)
    tasks = [
        f"[{stage}.tasks.{task}]\ndatasets = ['{name}']\nbatch = 8\n"
        for stage, each in stages.items()
        for task, name in each.items()
    ]
    return "\n".join([RECIPE, head, *tasks])


def facts(bench: Bench, kind: Callable[[Bench, str], Facts], name: str) -> list[tuple[str, str]]:
    """The facts of a name of a kind, as far as they come; that its command failed is one of them."""
    found: list[tuple[str, str]] = []
    begin = time.monotonic()
    try:
        found.extend(kind(bench, name))
    except (RuntimeError, OSError) as error:
        found.append((f"{kind.__name__} {name}", f"failed with {error}"))
    failure = found[-1][1] if found and found[-1][1].startswith("failed") else ""
    print(f"{kind.__name__} {name}: {time.monotonic() - begin:.1f} s {failure}", file=sys.stderr, flush=True)
    return found


Link = tuple[Callable[[Bench, str], Facts], str]
"""Something to be measured: a kind of fact, and a name of that kind."""


def measure(bench: Bench, only: Sequence[str]) -> Iterator[str]:
    """Every line, in the same order whatever ends first."""
    sets: list[Link] = [*((prepared, name) for name in PUBLISHED), (merged, "merged")]
    if os.environ.get("SKILLNET_TEST_PACKS"):
        sets += [(prepared, name) for name in PACKS]
    else:
        print("SKILLNET_TEST_PACKS is not set: no real data is prepared", file=sys.stderr)
    alone: list[list[Link]] = []
    ranks: list[list[Link]] = []
    for run in TRAININGS:
        (ranks if run.startswith("ranks2") else alone).append([(training, run)])
    begun = alone.pop(list(TRAININGS).index("begun"))
    alone[0] += [*begun, *((verb, name) for name in VERBS)]

    def chain(links: Sequence[Link]) -> list[tuple[str, str]]:
        wanted = [link for link in links if any(part in link[1] for part in only)]
        return [fact for link in wanted for fact in facts(bench, *link)]

    def parts() -> Iterator[list[tuple[str, str]]]:
        yield facts(bench, materials, "materials")
        with ThreadPoolExecutor(2) as pool:
            yield from pool.map(chain, [sets, *alone])
        yield from map(chain, ranks)

    for part in parts():
        yield from (f"{name} = {value}" for name, value in part)


def compare(one: Path, two: Path) -> int:
    """Print the lines in which two outputs differ, and say as an exit code whether any do."""
    before, after = (dict(line.split(" = ", 1) for line in path.read_text().splitlines()) for path in (one, two))
    different = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    for name in different:
        print(f"- {name} = {before.get(name)}\n+ {name} = {after.get(name)}")
    print(f"{len(different)} of {len({**before, **after})} lines differ")
    return int(bool(different))


def main() -> int:
    """Measure, or compare two measurements."""
    if sys.argv[1:2] == ["compare"]:
        return compare(*map(Path, sys.argv[2:4]))
    parser = argparse.ArgumentParser(description="Facts about what skillnet does to fixed data, to the bit.")
    parser.add_argument("--out", type=Path, help="also write the lines to this file")
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose skillnet is measured")
    parser.add_argument("--keys", choices=KEYS, default="old", help="how the recipes' keys are called")
    parser.add_argument(
        "--only", action="append", help="only sets, runs and verbs with this in their names; repeatable"
    )
    given = parser.parse_args()
    python = str(Path(given.python).absolute())  # not resolved: a virtual environment's is a link
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        outs = [sys.stdout, *([stack.enter_context(given.out.open("w", encoding="utf-8"))] if given.out else [])]
        total = hashlib.sha256()
        for line in measure(Bench(folder, python, KEYS[given.keys]), given.only or [""]):
            total.update(f"{line}\n".encode())
            for out in outs:
                print(line, file=out, flush=True)
        for out in outs:
            print(f"all = {total.hexdigest()[:20]}", file=out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
