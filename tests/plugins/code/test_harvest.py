"""Functions out of Python files: docstrings cut out exactly, descriptions without boilerplate, copies left out."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.api import DamagedItem
from skillnet_cli.prepare.preparer import Rejected
from skillnet_code.datasets.describe import LONGEST, description
from skillnet_code.datasets.functions import functions
from skillnet_code.datasets.harvest import Example, harvest

SOURCE = '''
import os


@decorated(
    1
)
def plain(symbol: str = "sh") -> str:
    """
    股票行情数据
    https://example.com/a
    """
    # 注释
    text = """not a docstring"""

    def inner():
        """inner docstring stays"""
        return text
    return inner()


class Holder:
    """class docstring"""

    async def method(self):
        \'\'\'异步获取行情\'\'\'
        return await self.x

    def bare(self): return 1

    def stub(self):
        """什么都不做"""
        raise NotImplementedError


def only_docstring():
    """没有代码"""
'''


def test_functions_and_methods_lose_their_docstring_and_nothing_else() -> None:
    found = {function.id.split(":")[-1]: function for function in functions("a/b.py", SOURCE.encode())}
    assert list(found) == ["plain", "Holder.method", "Holder.bare", "Holder.stub", "only_docstring"]
    assert found["plain"].code == textwrap.dedent(
        '''\
        @decorated(
            1
        )
        def plain(symbol: str = "sh") -> str:
            # 注释
            text = """not a docstring"""

            def inner():
                """inner docstring stays"""
                return text
            return inner()
        '''
    )
    assert found["Holder.method"].code == "async def method(self):\n    return await self.x\n"
    assert found["Holder.bare"].code == "def bare(self): return 1\n"
    assert found["plain"].docstring == "股票行情数据\nhttps://example.com/a"
    assert [name for name, function in found.items() if function.stub] == ["Holder.stub", "only_docstring"]
    assert found["plain"].id == "a/b.py:8:plain"


def test_code_without_its_docstring_is_the_same_program() -> None:
    """Against the interpreter's own tree: for every function of a module of the standard library."""
    source = inspect.getsource(functools)
    tree = ast.parse(source)
    nodes = {node.lineno: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    inner = {
        child.lineno
        for node in nodes.values()
        for child in ast.walk(node)
        if isinstance(child, ast.FunctionDef) and child is not node
    }
    found = {int(function.id.split(":")[1]): function for function in functions("functools.py", source.encode())}
    assert inner
    assert set(found) == set(nodes) - inner
    for line, function in found.items():
        node = nodes[line]
        node.body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        assert ast.dump(ast.parse(function.code).body[0]) == ast.dump(node)


def test_line_ends_within_a_line_do_not_shift_what_is_cut() -> None:
    odd = '    return "\x0c" \\\n        "\u2028"\n'
    source = f'def f():\n    """说明文字"""\n{odd}\n\ndef g():\r\n    """第二个"""\r\n    return 2\r\n'
    codes = [function.code for function in functions("a.py", source.encode())]
    assert codes == [f"def f():\n{odd}", "def g():\n    return 2\n"]


@pytest.mark.parametrize(
    "source",
    [
        'def f(): "说明"; return 1\n',
        'def f():\n    """说明"""; return 1\n',
        'def f():\n    """说明"""  # 行情\n    return 1\n',
        'def f():\r    """说明"""\r    return 1\r',
    ],
)
def test_docstring_that_shares_a_line_is_cut_all_the_same(source: str) -> None:
    (found,) = functions("a.py", source.encode())
    assert (found.code, found.docstring) == ("def f():\n    return 1\n", "说明")


@pytest.mark.parametrize("content", [b"def f(:", "x = '很好'".encode("gb18030"), b"x = 1\x00"])
def test_what_is_no_python_is_a_damaged_item(content: bytes) -> None:
    with pytest.raises(DamagedItem, match=r"not valid Python|not UTF-8|not text"):
        list(functions("a.py", content))


@pytest.mark.parametrize(
    ("docstring", "words"),
    [
        ("东方财富网-行情首页\nhttps://quote.example.com/\n:param a: 参数\n:return: 行情", "东方财富网-行情首页"),
        ("https://example.com/x\n获取行情", "获取行情"),
        ("删除分组\n详情请参考\nhttp://example.com/?a=1\n&t=2", "删除分组"),
        ("上线域名，文档 https://example.com/a#6", "上线域名"),
        ("重命名文件:\n\n本质为移动。\n\nArgs:\n    a: b", "重命名文件"),
        ("将数据写入文件，\n  以 utf-8 编码。\n  Args:\n    x", "将数据写入文件，以 utf-8 编码。"),
        ("Return the last\nline of it.\n\nReturns:\n  x", "Return the last line of it."),
        ("[float] 交易成本", "交易成本"),
        (":param x: 只有参数", ""),
        ("Parameters\n----------\nx : int", ""),
        ("", ""),
    ],
)
def test_description_is_the_first_paragraph_without_boilerplate(docstring: str, words: str) -> None:
    assert description(docstring) == words


@given(st.text(alphabet="好a。， \n:/", max_size=300))
def test_description_is_one_short_line_of_the_docstring(docstring: str) -> None:
    words = description(docstring)
    assert len(words) <= LONGEST
    assert "\n" not in words
    assert set(words.replace(" ", "")) <= set(docstring)


def function(name: str, text: str, body: str = "return 1") -> str:
    return f'def {name}():\n    """{text}"""\n    {body}\n\n\n'


def filtered(*files: tuple[str, str]) -> list[Example | Rejected]:
    return list(harvest((path, source.encode()) for path, source in files))


def test_near_duplicates_of_code_and_of_descriptions_are_left_out() -> None:
    found = filtered(
        ("p/a.py", function("f", "获取股票行情") + function("f", "获取基金行情", "return  2  # 注释")),
        ("p/b.py", function("g", "获取 股票行情。") + function("h", "获取债券行情")),
    )
    kinds = [item.reason if isinstance(item, Rejected) else item.text for item in found]
    assert kinds == [
        "获取股票行情",
        "nearly the code of p/a.py:1:f",
        "the description of p/a.py:1:f",
        "获取债券行情",
    ]


def test_rules_give_their_reason() -> None:
    found = filtered(
        ("p/tests/a.py", function("f", "获取股票行情")),
        ("p/b.py", "def a():\n    return 1\n\n" + function("b", "获取行情", "pass") + function("c", ":param x: 只有")),
        ("p/c.py", "def ("),
    )
    assert [(item.why, item.reason.split(":")[0]) for item in found if isinstance(item, Rejected)] == [
        ("filtered", "part of a test"),
        ("filtered", "no docstring"),
        ("filtered", "it does nothing"),
        ("filtered", "the docstring has no description"),
        ("damaged", "not valid Python"),
    ]
