"""The skill ``code`` for skillnet: word-pieces that keep case, indentation and line ends, and code search."""

from __future__ import annotations

from skillnet_cli.api import TRANSLATOR, Dataset, DatasetOption, Modality, Task, hookimpl

API_VERSION = 2

_OBTAIN = (
    "get PyTorrent_Both_Docstrings_UserComments.zip from https://zenodo.org/record/4546290, "
    "or name packages such as pypi:NAME==VERSION"
)
_LICENCES = "MIT and Apache-2.0 (the packages that the functions come from)"


@hookimpl
def skillnet_modalities() -> tuple[Modality, ...]:
    """The modality of Python source code."""
    return (
        Modality(
            skill="code",
            suffixes=(".py",),
            config="skillnet_code.config:CodeConfig",
            reader="skillnet_code.reader:CodeReader",
            embedder="skillnet_text.embedder:TokenEmbedder",
            preview="skillnet_code.preview:listing",
            vocabularies={"word-pieces": "skillnet_code.learn:learn_vocabulary"},
        ),
    )


@hookimpl
def skillnet_tasks() -> tuple[Task, ...]:
    """Text-to-code retrieval, and masked tokens of a text and its code in one sequence to pretrain on."""
    recalls = ("recall@1", "recall@5", "recall@10")
    return (
        Task("t2c", towers=(("text",), ("code",)), objective="contrastive", metrics=recalls),
        Task("code-mlm", towers=(("text", "code"),), objective="masked-tokens", metrics=("accuracy",)),
    )


@hookimpl
def skillnet_datasets() -> tuple[Dataset, ...]:
    """Functions with Chinese descriptions, to search and to pretrain on, and those of the demo."""
    return (
        Dataset(
            "pytorrent",
            prepare="skillnet_code.datasets.pytorrent:PyTorrent",
            feeds=("t2c",),
            licence="that of each package, recorded with each function",
            size="218,814 packages; the paper takes 150,000 pairs",
            url="https://github.com/fla-sil/PyTorrent",
            obtain=_OBTAIN,
            protocols=("paper", "official"),
            options=(TRANSLATOR,),
        ),
        Dataset(
            "code-pretrain",
            prepare="skillnet_code.datasets.pretrain:CodePretrain",
            feeds=("code-mlm",),
            licence="that of each package, recorded with each function",
            size="800,000 pairs of the same source",
            url="https://github.com/fla-sil/PyTorrent",
            obtain=_OBTAIN,
            options=(
                TRANSLATOR,
                DatasetOption(
                    "disjoint-from",
                    "A prepared set whose functions are left out, or 'none'. [default: pytorrent]",
                    metavar="SET",
                ),
            ),
        ),
        Dataset(
            "demo-functions",
            prepare="skillnet_code.datasets.demo:prepare_functions",
            feeds=("t2c", "code-mlm"),
            licence=_LICENCES,
            size="19 MB to fetch, 3,016 functions with Chinese descriptions, 276 of packages held out whole",
            part_of="demo",
        ),
        Dataset(
            "demo-code",
            prepare="skillnet_code.datasets.demo:prepare_code",
            feeds=("code-mlm",),
            licence=_LICENCES,
            size="19 MB to fetch (the same), 2,688 functions",
            part_of="demo",
        ),
    )
