"""A plugin for tests: words as letters and as marks, their sound as waves, and a task for every objective."""

from __future__ import annotations

from skillnet_cli.api import Dataset, Modality, Task, hookimpl

API_VERSION = 2


@hookimpl
def skillnet_modalities() -> list[Modality]:
    def modality(skill: str, reader: str, embedder: str, init: str | None = None) -> Modality:
        parts = ("toy_config:ToyConfig", f"toy_parts:{reader}", f"toy_parts:{embedder}")
        return Modality(skill, (f".{skill}",), *parts, init=init)

    return [
        modality("letters", "LetterReader", "LetterEmbedder", "toy_config:source_checkpoint"),
        modality("marks", "LetterReader", "LetterEmbedder", "toy_config:source_checkpoint"),
        modality("waves", "WaveReader", "WaveEmbedder"),
    ]


@hookimpl
def skillnet_tasks() -> list[Task]:
    return [
        Task("sort", (("letters",),), "classification", target="label", metrics=("accuracy",)),
        Task("spell", (("waves",),), "ctc", target="transcript", metrics=("accuracy",)),
        Task("match", (("letters",), ("waves",)), "contrastive", metrics=("recall@1", "recall@5")),
        Task("mirror", (("letters",), ("marks",)), "contrastive", metrics=("recall@1",)),
        Task("fill", (("letters",),), "masked-tokens", metrics=("accuracy",)),
        Task("pair", (("letters", "marks"),), "masked-tokens", metrics=("accuracy",)),
        Task("units", (("waves",),), "masked-units", target="units", metrics=("accuracy",)),
    ]


@hookimpl
def skillnet_datasets() -> list[Dataset]:
    return [Dataset("toy-sorted", "toy_parts:prepare", feeds=("sort",), licence="none", size="tiny")]
