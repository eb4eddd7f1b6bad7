"""The texts that the demo's voices speak: digit strings with their transcripts, and sentences and numbers without."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from skillnet_sound.demo.synthesis import Utterance

DIGITS = "零一二三四五六七八九"

HEARD_VOICES = ("cmn", "cmn+f1", "cmn+f2", "cmn+f3", "cmn+m1", "cmn+m2", "cmn+m3", "cmn+m7")
"""Variants of eSpeak NG's Mandarin voice that are trained on."""

UNHEARD_VOICE = "cmn+f4"
"""The variant of the test sets, never trained on."""

RATES, PITCHES = (170, 260), (35, 65)

TRAINED, DEVELOPED, TESTED = 3_000, 150, 300
HELD_OUT = {2: 20, 3: 130, 4: 300}
"""How many of the digit strings of each length are never trained on: together the strings to develop and test with."""

SENTENCES_TRAINED, SENTENCES_DEVELOPED, SENTENCES_TESTED = 2_000, 100, 200

TIMES = ("今天", "明天", "昨天", "早上", "中午", "晚上", "周末", "现在", "下个月", "去年", "春天", "刚才")
PEOPLE = ("我", "你", "他", "老师", "妈妈", "爸爸", "朋友", "同学", "医生", "司机", "邻居", "孩子们")
ACTIONS = ("去", "买", "看", "学习", "喜欢", "打扫", "画", "等", "想要", "准备", "介绍", "找到")
THINGS = ("北京", "苹果", "电影", "汉语", "音乐", "房间", "山水", "公交车", "咖啡", "晚饭", "新书", "杯子")
COUNTED = ("元", "公里", "个人", "本书", "号楼", "度", "分钟", "块钱")
PATTERNS = ((PEOPLE, ACTIONS, THINGS), (TIMES, PEOPLE, ACTIONS))


def digit_utterances(seed: int) -> dict[str, list[Utterance]]:
    """Strings of two to four digits: no string to develop or test with is trained on; test is in the unheard voice."""
    rng = np.random.default_rng((seed, 0))
    held_out: list[str] = []
    trained: dict[int, list[str]] = {}
    for length, count in HELD_OUT.items():
        strings = [_digits(number, length) for number in rng.permutation(10**length).tolist()]
        held_out += strings[:count]
        trained[length] = strings[count:]
    rng.shuffle(held_out)
    lengths = rng.choice(list(HELD_OUT), size=TRAINED).tolist()
    train = [trained[length][rng.integers(len(trained[length]))] for length in lengths]
    return {
        "train": _spoken(train, HEARD_VOICES, rng),
        "dev": _spoken(held_out[:DEVELOPED], HEARD_VOICES, rng),
        "test": _spoken(held_out[DEVELOPED:], [UNHEARD_VOICE], rng),
    }


def sentence_utterances(seed: int) -> dict[str, list[Utterance]]:
    """Short sentences and numbers, each in one split alone; test is in the unheard voice."""
    rng = np.random.default_rng((seed, 1))
    sentences: dict[str, None] = {}
    while len(sentences) < SENTENCES_TRAINED + SENTENCES_DEVELOPED + SENTENCES_TESTED:
        sentences[_quantity(rng) if rng.random() < 0.4 else _sentence(rng)] = None
    texts = iter(sentences)
    return {
        "train": _spoken(list(islice(texts, SENTENCES_TRAINED)), HEARD_VOICES, rng),
        "dev": _spoken(list(islice(texts, SENTENCES_DEVELOPED)), HEARD_VOICES, rng),
        "test": _spoken(list(texts), [UNHEARD_VOICE], rng),
    }


def _digits(number: int, length: int) -> str:
    return "".join(DIGITS[int(digit)] for digit in f"{number:0{length}}")


def _sentence(rng: np.random.Generator) -> str:
    return "".join(str(rng.choice(words)) for words in PATTERNS[rng.integers(len(PATTERNS))])


def _quantity(rng: np.random.Generator) -> str:
    return f"{int(10 ** rng.uniform(0, 4))}{rng.choice(COUNTED)}"


def _spoken(texts: Sequence[str], voices: Sequence[str], rng: np.random.Generator) -> list[Utterance]:
    return [
        Utterance(text, str(rng.choice(voices)), int(rng.integers(*RATES)), int(rng.integers(*PITCHES)))
        for text in texts
    ]
