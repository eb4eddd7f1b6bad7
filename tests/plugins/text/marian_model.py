"""A Marian model in the layout of the University of Helsinki's, tiny and untrained, made from the seed alone."""

from __future__ import annotations

import json
from pathlib import Path

import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel

TEXTS = {
    "source": ["the cat sits on the mat", "a dog runs in the park", "read the file and return its lines"],
    "target": ["猫坐在垫子上", "一只狗在公园里跑", "读取文件并返回各行"],
}
WANTED = ">>cmn_Hans<<"


def make_marian(folder: Path) -> Path:
    """Write one; its weights are so large that rounding them to eight bits hardly changes what it says."""
    folder.mkdir()
    names = ["</s>", "<unk>", WANTED]
    for side, texts in TEXTS.items():
        names += [piece for piece in train_pieces(folder / side, texts) if piece not in (*names, "<s>")]
    names.append("<pad>")
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    (folder / "tokenizer_config.json").write_text('{"source_lang": "eng", "target_lang": "zho"}')
    torch.manual_seed(0)
    layer = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}
    config = MarianConfig(
        vocab_size=len(names), d_model=16, max_position_embeddings=64, max_length=64, pad_token_id=len(names) - 1,
        decoder_start_token_id=len(names) - 1, eos_token_id=0, forced_eos_token_id=0,
        **{f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in layer.items()},
    )  # fmt: skip
    model = MarianMTModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(30 if weight.dim() > 1 else 1)
    model.save_pretrained(folder)
    return folder


def train_pieces(stem: Path, texts: list[str]) -> list[str]:
    """Learn one side's pieces into ``STEM.spm``."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20), model_prefix=str(stem), vocab_size=50, hard_vocab_limit=False, minloglevel=2
    )
    stem.with_suffix(".model").rename(stem.with_suffix(".spm"))
    learnt = sentencepiece.SentencePieceProcessor(model_file=str(stem.with_suffix(".spm")))
    return [learnt.id_to_piece(number) for number in range(learnt.vocab_size())]
