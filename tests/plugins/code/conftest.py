from __future__ import annotations

from pathlib import Path

import pytest

from skillnet_code.config import CodeConfig
from skillnet_code.learn import learn_vocabulary
from skillnet_code.reader import CodeReader

CODES = (
    'def 行情(symbol: str = "sh600000") -> pd.DataFrame:\n'
    '    url = f"https://example.com/{symbol}?page=1"\n'
    "    for __page in range(1, 100):  ## 翻页\n"
    "        temp_df = pd.DataFrame(requests.get(url).json())\n"
    '        temp_df.columns = ["代码", "最新价", "涨跌幅"]\n'
    "    return temp_df\n",
    "class Reader:\r\n\tdef __init__(self, *args):\r\n\t\tself._args = args  # tab and CR LF\r\n\r\n",
    "x = {**a, 'b': [1, 2, 3]}\n\n\nif not x:\n    raise ValueError('no x')\n",
)


@pytest.fixture(scope="session")
def codes() -> tuple[str, ...]:
    """Code with indentation by blanks and by tabs, both line ends, Chinese, and '##'."""
    return CODES


@pytest.fixture(scope="session")
def vocab_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    learn_vocabulary(CODES * 3, 700, path)
    return path


@pytest.fixture(scope="session")
def reader(vocab_file: Path) -> CodeReader:
    return CodeReader(CodeConfig(vocab=vocab_file))
