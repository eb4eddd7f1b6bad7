"""Finds the functions of a Python file and cuts their docstrings out of their code."""

from __future__ import annotations

import ast
import copy
import io
import re
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from skillnet_cli.api import DamagedItem

LARGEST = 1 << 20
"""Bytes of a Python file; larger ones are data, and their syntax tree takes some 200 times as much memory."""

_DECLARED = re.compile(rb"coding[:=][ \t]*([-\w.]+)")

Definition: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"


@dataclass(frozen=True)
class Function:
    """A function or method. ``code`` is its source from the first decorator on, without the docstring.

    ``stub`` says that its body does nothing: that it is empty, ``pass``, ``...`` or raises NotImplementedError.
    """

    id: str
    code: str
    docstring: str
    stub: bool


def functions(path: str, content: bytes) -> Iterator[Function]:
    """The functions and methods of a file in their order; those inside other functions are part of these.

    Raises:
        DamagedItem: the file is not Python that this interpreter understands, or has more than :data:`LARGEST` bytes.
    """
    if len(content) > LARGEST:
        raise DamagedItem(f"a Python file of more than {LARGEST} bytes")
    text = re.sub("\r\n?", "\n", decode_code(content))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other people's escape sequences
            tree = ast.parse(text)
        lines = text.split("\n")
        for name, node in _definitions(tree, ""):
            code = _without_docstring(node, lines)
            yield Function(f"{path}:{node.lineno}:{name}", code, ast.get_docstring(node) or "", _is_stub(node))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last where it is nested too deep
        raise DamagedItem(f"not valid Python: {(str(error) or 'nested too deep').splitlines()[0]}") from error


def decode_code(content: bytes) -> str:
    """A Python file's text: in the encoding that its first two lines declare (PEP 263), else UTF-8.

    Raises:
        DamagedItem: it declares one that does not exist or does not fit, or is no UTF-8.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        if encoding.lower().startswith(("utf-16", "utf-32", "utf_16", "utf_32")):
            raise LookupError  # what declares it was read as ASCII
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[error.start]:02x} at {error.start}"
        raise DamagedItem(f"it is not in {encoding.removesuffix('-sig').upper()} ({found})") from error
    except (SyntaxError, LookupError, ValueError) as error:
        declared = _DECLARED.search(b"\n".join(content.split(b"\n", 2)[:2]))
        if declared is None:
            raise DamagedItem("it is not UTF-8, and declares no other encoding") from error
        name = declared[1].decode("ascii", "replace")[:40]
        raise DamagedItem(f"it declares the encoding '{name}', which does not exist or does not fit") from error
    if "\0" in text:
        raise DamagedItem("it is not text")
    return text


def _definitions(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Definition]]:
    for node in parent.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{prefix}{node.name}.")


def _without_docstring(node: Definition, lines: list[str]) -> str:
    """The lines of a definition, its docstring's lines left out, at the left margin."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    kept = set(range(first, _end(node) + 1))
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        if not _has_its_lines_to_itself(docstring, lines):
            return ast.unparse(ast.fix_missing_locations(_bodied(node, node.body[1:]))) + "\n"
        kept -= set(range(docstring.lineno, _end(docstring) + 1))
    return textwrap.dedent("\n".join(lines[number - 1] for number in sorted(kept))).strip() + "\n"


def _has_its_lines_to_itself(statement: ast.stmt, lines: list[str]) -> bool:
    """Whether nothing stands before or behind a statement; columns count UTF-8 bytes."""
    before = lines[statement.lineno - 1].encode()[: statement.col_offset]
    behind = lines[_end(statement) - 1].encode()[statement.end_col_offset :]
    return not (before.strip() or behind.strip())


def _bodied(node: Definition, body: list[ast.stmt]) -> Definition:
    changed = copy.copy(node)
    changed.body = body or [ast.Pass()]
    return changed


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _is_stub(node: Definition) -> bool:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return all(_does_nothing(statement) for statement in body)


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return "NotImplemented" in ast.dump(statement)
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
