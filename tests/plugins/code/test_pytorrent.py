"""``pytorrent`` and ``code-pretrain``: records, packages, translation, copies, divisions, and no overlap."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import Translator, UserError
from skillnet_cli.data.format import read_ledger
from skillnet_cli.data.prepared import PreparedSet
from skillnet_cli.plugins import Plugin, build_registry
from skillnet_cli.prepare import translation
from skillnet_cli.prepare.preparer import Preparation, Tolerance
from skillnet_cli.prepare.run import run
from skillnet_code import skillnet_datasets
from skillnet_code.datasets.pairs import language
from skillnet_code.datasets.pretrain import CodePretrain
from skillnet_code.datasets.pytorrent import PyTorrent
from skillnet_code.datasets.records import partition_of, without_docstring

DATASETS = {each.name: each for each in skillnet_datasets()}
KINDS = {"pytorrent": PyTorrent, "code-pretrain": CodePretrain}
PACKS = os.environ.get("SKILLNET_TEST_PACKS")
ENGLISH = {"Open the door.": "打开门。", "Say nothing of use.": "Say nothing of use."}


class Phrases:
    """A translator for tests: by heart, else a poor one."""

    identity = "phrases"

    def __init__(self, model: str | None, folder: Path) -> None: ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        return [ENGLISH.get(text) for text in texts]


REGISTRY = build_registry([Plugin("tests", "tests", "1", translators=(Translator("phrases", f"{__name__}:Phrases"),))])


@pytest.fixture
def phrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "resolve", lambda name: Phrases)


def prepare(name: str, sources: Sequence[Path], out: Path, **more: Any) -> PreparedSet:
    options = {option.name: option.absent for option in DATASETS[name].options} | more.pop("options", {})
    settings = {"options": options, "cache": out.parent / "cache", "tolerance": Tolerance(damaged=None), **more}
    run(KINDS[name], Preparation(DATASETS[name], tuple(map(str, sources)), out, **settings))
    return PreparedSet.open(out)


def function(number: int, docstring: str = "") -> str:
    body = "\n".join(f"    step_{number}_{line} = call_{number * 7 + line}(step_{line})" for line in range(30))
    return f"def work_{number}(self):\n{docstring}{body}\n    return step_{number}_29\n"


def record(number: int, docstring: str | None = None, **more: Any) -> dict[str, Any]:
    text = f"完成第{number}号工作" if docstring is None else docstring
    fields = {"repo": "a/b", "path": "c.py", "func_name": f"work_{number}", "language": "python"}
    return {**fields, "code": function(number), "docstring": text, "licence": "MIT", **more}


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def rows(made: PreparedSet) -> dict[str, tuple[str, str, str]]:
    return {row.id: (row.split, row.why, row.reason) for row in read_ledger(made.path)}


def codes(made: PreparedSet) -> set[str]:
    return {sample["code"] for split in made.manifest.splits for sample in made.split(split)}


@pytest.mark.usefixtures("phrases")
def test_every_record_is_a_pair_or_a_row_of_the_ledger(tmp_path: Path) -> None:
    nearly = function(1).replace("step_1_3 =", "outcome =")
    train = [
        record(1),
        "{broken",
        record(2, code=" "),
        record(3, None, language="java"),
        record(4, ""),
        record(5, "?!"),
        record(6, "Открыть дверь сейчас"),
        record(7, "ドアを開けてください、今日中に日本語説明"),
        record(8, "Open the door.\n\nArgs:\n    door: the door"),
        record(9, "Say nothing of use."),
        record(10, "Nobody knows."),
        record(11, code="# anew\n" + function(1).upper().replace("  ", "\t")),
        record(12, code=nearly),
        record(13, "完成第1号，工作！"),
        record(14, code=function(14, '    """完成第14号工作。"""\n')),
    ]
    write(tmp_path / "python" / "train" / "train_0.jsonl.gz", train)
    write(tmp_path / "python" / "valid" / "valid_0.jsonl.gz", [record(20), record(1)])
    out = tmp_path / "set"
    made = prepare(
        "pytorrent",
        [tmp_path / "python"],
        out,
        protocol="official",
        options={"translator": "phrases"},
        registry=REGISTRY,
    )
    name = "train/train_0.jsonl.gz"
    found = {id.removeprefix(f"{name}:"): row for id, row in rows(made).items() if row[0] == "train"}
    assert found == {
        "1": ("train", "duplicate", "the same content as 'valid/valid_0.jsonl.gz:2'"),
        "2": ("train", "damaged", "line 2 is not JSON"),
        "3": ("train", "damaged", "it has no code"),
        "4": ("train", "filtered", "not Python"),
        "5": ("train", "filtered", "no docstring"),
        "6": ("train", "filtered", "the docstring has no description"),
        "7": ("train", "filtered", "the description is neither Chinese nor English"),
        "8": ("train", "filtered", "the description is neither Chinese nor English"),
        "9": ("train", "kept", ""),
        "10": ("train", "filtered", "a poor translation: less than 30% of the translation is Chinese"),
        "11": ("train", "filtered", "a poor translation: it could not be translated"),
        "12": ("train", "duplicate", "the same content as 'valid/valid_0.jsonl.gz:2'"),
        "13": ("train", "duplicate", "nearly the code of 'valid/valid_0.jsonl.gz:2'"),
        "14": ("train", "duplicate", "the description of 'valid/valid_0.jsonl.gz:2'"),
        "15": ("train", "kept", ""),
    }
    translated, native = made.split("train")
    assert translated["text"] == ["打开门。"] and translated["original"] == "Open the door."
    assert native["code"] == function(14) and native["licence"] == "MIT" and native["origin"] == "a/b:c.py:work_14"
    assert len(made.split("dev")) == 2, "what is measured on stays whole"


def test_the_papers_division_mixes_all_partitions_in_its_proportion(tmp_path: Path) -> None:
    for name, numbers in (("train", range(100)), ("valid", range(100, 120)), ("test", range(120, 150))):
        write(tmp_path / "jsonl" / f"{name}.jsonl", [record(number) for number in numbers])
    made = prepare("pytorrent", [tmp_path / "jsonl"], tmp_path / "paper", protocol="paper", seed=3)
    assert {name: facts.items for name, facts in made.manifest.splits.items()} == {"train": 100, "dev": 20, "test": 30}
    origins = Counter(sample["id"].split(".")[0] for sample in made.split("test"))
    assert len(origins) == 3, "drawn from all partitions"
    other = prepare("pytorrent", [tmp_path / "jsonl"], tmp_path / "other", protocol="paper", seed=4)
    assert codes(made) == codes(other)
    assert [each["id"] for each in made.split("test")] != [each["id"] for each in other.split("test")]
    plain = prepare("pytorrent", [tmp_path / "jsonl"], tmp_path / "default")
    assert plain.manifest.choices["split"] == "official", "150,000 are not there"


def test_pretraining_shares_no_code_with_the_set_to_search(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [record(number) for number in range(60)])
    write(tmp_path / "b.jsonl", [record(number) for number in range(100)])
    with pytest.raises(UserError, match="not prepared yet: prepare it first"):
        prepare("code-pretrain", [tmp_path / "b.jsonl"], tmp_path / "early")
    search = prepare("pytorrent", [tmp_path / "a.jsonl"], tmp_path / "pytorrent")
    made = prepare("code-pretrain", [tmp_path / "b.jsonl"], tmp_path / "pretrain")
    assert not codes(made) & codes(search) and len(codes(made)) == 40
    assert made.manifest.ledger["filtered"] == 60 and made.manifest.choices["codes of the other set"] == 60
    assert {name: facts.items for name, facts in made.manifest.splits.items()} == {"train": 40}
    named = {"disjoint-from": str(tmp_path / "pretrain")}
    rest = prepare("code-pretrain", [tmp_path / "b.jsonl"], tmp_path / "rest", options=named)
    assert codes(rest) == codes(search)
    every = prepare("code-pretrain", [tmp_path / "b.jsonl"], tmp_path / "every", options={"disjoint-from": "none"})
    assert len(codes(every)) == 100


def package(number: int) -> dict[str, str]:
    chinese = f'    """完成第{number}号工作。\n\n    :param x: 没有\n    """\n'
    return {
        "pack/__init__.py": "",
        f"pack/work{number}.py": f"@decorated\n{function(number, chinese)}\nclass A:\n    def bare(self): return 1\n",
        "pack/tests/test_a.py": function(99, '    """测试第九十九号工作。"""\n'),
        "pack/old.py": "print 'two'\n",
    }


def wheel(folder: Path, number: int, metadata: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"pack{number}-1.{number}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in package(number).items():
            archive.writestr(name, content)
        archive.writestr(f"pack{number}-1.{number}.dist-info/METADATA", metadata)
    return path


def sdist(folder: Path, number: int) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"pack{number}-1.{number}.tar.gz"
    files = {**package(number), "PKG-INFO": "Name: x\nClassifier: License :: OSI Approved :: BSD License\n"}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"pack{number}-1.{number}/{name}")
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
        link = tarfile.TarInfo("pack/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def test_packages_give_pairs_with_their_licence(tmp_path: Path) -> None:
    sources = [wheel(tmp_path, 1, "License-Expression: MIT\n"), sdist(tmp_path, 2)]
    sources += [wheel(tmp_path, 3, "License: UNKNOWN\n"), wheel(tmp_path / "more", 4, "License: Apache 2.0\n").parent]
    sdist(tmp_path / "more", 5)
    broken = tmp_path / "pack9-1.9.tar.gz"
    broken.write_bytes(sdist(tmp_path, 2).read_bytes()[:-300])
    made = prepare("pytorrent", [*sources, broken], tmp_path / "set")
    samples = [sample for split in made.manifest.splits for sample in made.split(split)]
    found = {sample["origin"]: (sample["licence"], sample["text"], sample["code"]) for sample in samples}
    wanted = {1: "MIT", 2: "BSD License", 3: "unknown", 4: "Apache 2.0", 5: "BSD License"}
    assert set(found) == {f"pack{n}==1.{n}:{path_in(n)}pack/work{n}.py:2:work_{n}" for n in wanted}
    for number, licence in wanted.items():
        key = next(key for key in found if key.startswith(f"pack{number}=="))
        assert found[key] == (licence, [f"完成第{number}号工作。"], f"@decorated\n{function(number)}")
    reasons = Counter((row[1], row[2].split(":")[0]) for row in rows(made).values())
    assert reasons["filtered", "no docstring"] >= 5 and reasons["filtered", "part of a test"] >= 5
    assert reasons["damaged", "not valid Python"] >= 5 and rows(made)["pack9-1.9.tar.gz"][1] == "damaged"
    assert sum("not followed" in row[2] for row in rows(made).values()) == 2
    assert sum(made.manifest.ledger.values()) == len(rows(made))


def path_in(number: int) -> str:
    return f"pack{number}-1.{number}/" if number in (2, 5) else ""


def test_a_source_without_pairs_and_two_files_of_one_path(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"there is no \*\.jsonl or"):
        prepare("pytorrent", [tmp_path / "empty"], tmp_path / "set")
    twice = [write(tmp_path / name / "x.jsonl", [record(1)]) for name in ("a", "b")]
    with pytest.raises(UserError, match=r"two sources have a file 'x\.jsonl'"):
        prepare("pytorrent", twice, tmp_path / "twice")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("both/test/test_scenario_both_chk_0.jsonl.gz", "test"),
        ("python/final/jsonl/valid/python_valid_0.jsonl.gz", "dev"),
        ("train.jsonl", "train"),
        ("testing/pairs.jsonl", "all"),
        ("a-train-b.jsonl.gz", "train"),
    ],
)
def test_partitions_are_told_by_paths(path: str, split: str) -> None:
    assert partition_of(path) == split


def test_docstrings_are_cut_out_of_any_python() -> None:
    old = 'def f(self):\n    """Print it.\n\n    More.\n    """\n    print "x"\n'
    assert without_docstring(old) == 'def f(self):\n    print "x"\n'
    assert without_docstring("def f():\n    x = '''other'''\n    print x\n").count("other") == 1
    inline = 'def f(self):\n        "Print it."\n        return 1'
    assert without_docstring(inline) == "def f(self):\n        return 1\n"
    plain = "def f():\n    return 1"
    assert without_docstring(plain) is plain


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("获取consul配置路径 of the server", "zh"),
        ("创建域名", "zh"),
        ("Get the 域名 of hosts", "en"),
        ("数える関数を返します値段", None),
    ],
)
def test_languages(text: str, known: str | None) -> None:
    assert language(text) == known


@pytest.mark.soak
@pytest.mark.skipif(not PACKS, reason="SKILLNET_TEST_PACKS names no folder of real data")
def test_the_pack_is_prepared_whole(tmp_path: Path) -> None:
    made = prepare("pytorrent", [Path(str(PACKS)) / "pytorrent"], tmp_path / "set")
    counts = Counter(row[0] for row in rows(made).values())
    assert counts == {"train": 12_296, "dev": 1_097}, "every item of the pack"
    assert made.manifest.choices["split"] == "official" and made.manifest.ledger["damaged"] == 0
    assert sum(made.manifest.ledger.values()) == 13_393 and made.manifest.ledger["kept"] > 13_000
