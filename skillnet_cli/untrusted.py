"""Reading what comes from outside: regular files only, JSON within bounds, and text that a terminal does not obey.

A model's folder, a set, a collection, a run and whatever lies beside them may have been written by anyone. Every JSON
document of theirs passes through :func:`parse_json`, and through a schema of whoever reads it; every name and sentence
of theirs is shown through :func:`printable`.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import stat
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    Schema = TypeVar("Schema", bound=BaseModel)
else:
    Schema = TypeVar("Schema")  # a bound that is not imported could not be checked at run time

MAX_BYTES = 256 << 20
"""The largest JSON document that is read, unless its reader says otherwise."""

MAX_DEPTH = 50
"""How deep lists and objects may stand in one another: ours reach 8, and Python's own limit is 1,000 frames."""

_JOINERS = "\u200c\u200d"
"""Characters without a shape that belong to words of Persian and to emoji."""


class Untrusted(ValueError):
    """What came from outside is not what it should be; the message is the end of a line that begins with its name."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. A named pipe, a socket or a device, which could block or never end, is not opened.

    Raises:
        Untrusted: it is not a regular file.
        OSError: it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise Untrusted(f"is {_kind_of(facts.st_mode)}, not a file")
        if facts.st_size == 0:  # as the kernel's own have, which may have no end all the same, or block
            os.read(handle, 1)
            os.lseek(handle, 0, os.SEEK_SET)
    except BlockingIOError as error:
        os.close(handle)
        raise Untrusted("is a device, not a file") from error
    except (OSError, Untrusted):
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def _kind_of(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a file of at most ``most`` bytes.

    Raises:
        Untrusted: it is larger, or not a regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size  # a buffer of all that is allowed would be made before anything is read
        content = file.read(min(most, max(size, 1 << 16)) + 1)
    if len(content) > most:
        raise Untrusted(f"has more than {most:,} bytes")
    return content


def medium(source: object, what: str) -> bytes | Path:
    """The source of a picture, a recording or a clip: its bytes or the path of its file.

    A text is no path here. It may be what a prepared set has where a medium should be, and would then make whoever
    reads the set open any file of this machine.

    Args:
        source: what a reader was given.
        what: what it should be, such as "a picture".

    Raises:
        Untrusted: it is a text, or anything else.
    """
    if isinstance(source, (bytes, Path)):
        return source
    raise Untrusted(f"is {'a text' if isinstance(source, str) else type(source).__name__}, not {what}")


def read_json(path: Path, most: int = MAX_BYTES) -> Any:
    """The document in a JSON file of at most ``most`` bytes.

    Raises:
        Untrusted: it is larger, no JSON, nested too deep, or holds a number that is not finite.
        OSError: it cannot be read.
    """
    return parse_json(read_bytes(path, most))


def parse_json(content: bytes | str, depth: int = MAX_DEPTH, *, unique: bool = False) -> Any:
    """The document in a JSON text.

    Args:
        content: the text; bytes are UTF-8, with or without a byte order mark.
        depth: how deep lists and objects may stand in one another.
        unique: refuse a key that an object has twice, of which readers see different ones.

    Raises:
        Untrusted: it is no JSON, nested too deep, or holds a number that is not finite.
    """
    hook = _unique if unique else None
    try:
        text = content if isinstance(content, str) else str(content, "utf-8-sig")
        document = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=hook)
    except Untrusted:
        raise
    except RecursionError as error:
        raise Untrusted(f"is nested more than {depth} deep") from error
    except ValueError as error:  # of the decoder, of JSON, or a number of thousands of digits
        raise Untrusted(f"is not JSON ({error})") from error
    # Counting is far faster than looking, and most documents have few brackets: samples are read by the thousand.
    if text.count("[") + text.count("{") > depth and not is_within(document, depth):
        raise Untrusted(f"is nested more than {depth} deep")
    return document


def _refuse(constant: str) -> NoReturn:
    raise Untrusted(f"holds {constant}, which is no finite number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        raise Untrusted(f"has the key {next(key for key in keys if keys.count(key) > 1)[:100]!r} twice")
    return document


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits[:20])


def is_within(document: Any, depth: int) -> bool:
    """Whether lists and objects stand at most ``depth`` deep in one another. Goes level by level, not recursively."""
    level = [document]
    for _ in range(depth + 1):
        level = [each for each in level if isinstance(each, (dict, list))]
        if not level:
            return True
        level = [each for parent in level for each in (parent.values() if isinstance(parent, dict) else parent)]
    return False


def validate(schema: type[Schema], document: Any) -> Schema:
    """A document as its schema has it.

    Raises:
        Untrusted: it does not fit; the message names the first key that does not, and says what is wrong with it.
    """
    from pydantic import ValidationError  # what only prints need not wait for it

    try:
        return schema.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part)[:_BRIEF] for part in first["loc"])
        raise Untrusted(f"{place}: {describe(first)}" if place else describe(first)) from error


_EXPECTED = {
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a table",
    "extra_forbidden": "is not known here",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "float_parsing": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be an array",
    "literal_error": "must be {expected}",
    "model_attributes_type": "must be a table",
    "model_type": "must be a table",
    "multiple_of": "must be a multiple of {multiple_of}",
    "path_type": "must be a path",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be a string",
    "too_long": "must have at most {max_length} elements",
    "too_short": "must have at least {min_length} elements",
    "tuple_type": "must be an array",
}
"""Our messages by pydantic's types of errors: its own speak of inputs and of Python's types."""

_BRIEF = 40
"""Characters of a value that a message repeats."""


def describe(details: ErrorDetails) -> str:
    """What is wrong with one value, in words: one of the errors of pydantic's ValidationError."""
    if details["type"] == "missing":
        return "is missing"
    if details["type"] == "value_error":  # a validator of ours, or of a plugin
        return details["msg"].removeprefix("Value error, ")
    bounds = details.get("ctx", {})
    if bounds.get("min_length") == 1:
        return "must not be empty"
    # 1 rather than 1.0, as people write it
    shown = {key: f"{bound:g}" if isinstance(bound, float) else bound for key, bound in bounds.items()}
    expected = _EXPECTED.get(details["type"], "is not valid").format(**shown)
    return expected if details["type"] == "extra_forbidden" else f"{expected}, not {_brief(details['input'])}"


def _brief(value: Any) -> str:
    # What is nested deep, or is long, is not written out before it is found to be too long.
    text = reprlib.repr(value) if isinstance(value, (dict, list)) else repr(value)
    return text if len(text) <= _BRIEF else f"a {type(value).__name__}"


def printable(text: str) -> str:
    """The text without what a terminal would act on, each such character as ``\\ufffd``.

    Control characters but line ends and tabs, marks that turn the direction of writing or cannot be seen, and halves
    of characters (file names that are not UTF-8) are replaced.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if is_shown(each) else "\ufffd" for each in text)


def is_shown(character: str) -> bool:
    """Whether a terminal shows the character, and does nothing else."""
    return character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _OBEYED


_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
