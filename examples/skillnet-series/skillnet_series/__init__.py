"""The skill ``series``: runs of sensor readings, one number a line, sorted into kinds or found with a sentence."""

from __future__ import annotations

from skillnet_cli.api import Modality, Task, hookimpl

API_VERSION = 2


@hookimpl
def skillnet_modalities() -> tuple[Modality, ...]:
    """How readings become tokens."""
    return (
        Modality(
            skill="series",
            suffixes=(".csv",),
            config="skillnet_series.reader:SeriesConfig",
            reader="skillnet_series.reader:SeriesReader",
            embedder="skillnet_series.embedder:SeriesEmbedder",
            augment="skillnet_series.reader:jitter",
            preview="skillnet_series.preview:sparkline",
        ),
    )


@hookimpl
def skillnet_tasks() -> tuple[Task, ...]:
    """Which kind a run of readings is; and a run from its description, which needs skillnet-text too."""
    return (
        Task("kind", towers=(("series",),), objective="classification", target="label", metrics=("accuracy",)),
        Task("t2s", towers=(("text",), ("series",)), objective="contrastive", metrics=("recall@1", "recall@10")),
    )
