"""A plugin for tests of what is done with a model: words that ask, shapes that are found, hums that are only heard."""

from __future__ import annotations

from typing import Any

from skillnet_cli.api import Dataset, DatasetOption, Metric, Modality, Task, hookimpl

API_VERSION = 2


@hookimpl
def skillnet_modalities() -> list[Modality]:
    def modality(skill: str, **more: Any) -> Modality:
        parts = {part: f"bytes_parts:{name}" for part, name in PARTS.items()}
        return Modality(skill, (f".{skill}",), **parts, **more)

    word = modality("word", vocabularies={"letters": "bytes_parts:learn"})
    return [word, modality("shape", preview="bytes_parts:preview"), modality("hum"), modality("lone")]


PARTS = {"config": "BytesConfig", "reader": "BytesReader", "embedder": "BytesEmbedder"}


@hookimpl
def skillnet_tasks() -> list[Task]:
    return [
        Task("find", (("word",), ("shape",)), "contrastive", metrics=("recall@1", "recall@3")),
        Task("hear", (("hum",),), "ctc", target="transcript", metrics=("misses",)),
        Task("kind", (("word",),), "classification", target="label", metrics=("accuracy",)),
        Task("fill", (("word",),), "masked-tokens", metrics=("accuracy",)),
        Task("guess", (("lone",),), "masked-units", target="units", metrics=("accuracy",)),
    ]


@hookimpl
def skillnet_metrics() -> list[Metric]:
    return [Metric("misses", "bytes_parts:misses", higher_is_better=False)]


@hookimpl
def skillnet_datasets() -> list[Dataset]:
    def dataset(name: str, part_of: str | None, *feeds: str) -> Dataset:
        return Dataset(name, f"bytes_parts:prepare_{name}", feeds, "none", "tiny", part_of=part_of)

    pairs, hums = dataset("pairs", "both", "find", "kind", "fill"), dataset("hums", "both", "hear", "guess")
    parted = Dataset(
        "parted",
        "bytes_ranges:Parted",
        ("kind",),
        "none",
        "tiny",
        obtain="write a file of words yourself",
        protocols=("official",),
        options=(
            DatasetOption("shout", "Words in capitals.", bool),
            DatasetOption("repeat", "Each word so many times.", int, 1),
            DatasetOption("skip", "Words to leave out.", repeatable=True, metavar="WORD"),
        ),
    )
    return [pairs, hums, dataset("broken", None, "find"), parted]
