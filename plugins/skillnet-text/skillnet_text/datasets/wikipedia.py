"""Dumps of wikis as Wikipedia publishes them (``*-pages-articles*.xml.bz2``): their articles as plain text.

A dump is XML of any size with one ``<page>`` after another. It is read as a stream, with bounds on everything that is
kept; a declaration of entities, which no dump has, is refused before anything is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from skillnet_cli.sources.members import Member
from skillnet_cli.sources.texts import LineFile

LONGEST_PAGE = 16 << 20
"""Characters of a page; MediaWiki itself takes no more than 2 MiB."""

_DEEPEST = 32
_LONGEST_TAG = 1 << 14
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REDIRECT = re.compile(r"\s*#(?:redirect|重定向)\s*[:：]?\s*\[\[", re.IGNORECASE)


@dataclass
class Page:
    """A page of a dump, counted from 1: the wikitext of its last revision; or ``damage``, why it cannot be read."""

    number: int
    title: str = ""
    namespace: str = "0"
    model: str = "wikitext"
    redirect: bool = False
    text: str = ""
    damage: str | None = None

    @property
    def unfit(self) -> str | None:
        """Why it is no article; None for one."""
        if self.namespace.strip() != "0":
            return "it is a page of another kind than articles"
        if self.redirect or _REDIRECT.match(self.text):
            return "it is a redirect"
        return None if self.model.strip() in ("", "wikitext") else "it is no wikitext"


class NoDumpError(Exception):
    """An XML document that is no dump."""


class _RefusedError(Exception):
    """Something that no dump has."""


def pages(dump: Member) -> Iterator[Page]:
    """Yield the pages of a dump, decompressed where needed. A broken one, or a broken end, is a page with damage.

    Raises:
        NoDumpError: it is XML of another kind.
    """
    with dump.open() as file:
        lines, parser, lost = LineFile(file, "utf-8"), _Parser(), False
        for content, size in lines:
            if lost:  # behind what is not XML, the next page is looked for
                lost = content.strip() != b"<page>"
                if lost:
                    continue
                parser = _Parser(parser.number, b"<mediawiki>")
            try:
                if size > len(content):
                    raise _RefusedError(f"it has a line of more than {len(content)} bytes")
                parser.feed(content)
            except (expat.ExpatError, _RefusedError) as error:
                lost = True
                yield from parser.take()
                if parser.refused:
                    yield Page(parser.number + 1, damage=str(error))
                    return
                words = "it is not valid XML ({})" if isinstance(error, expat.ExpatError) else "{}"
                yield parser.broken(words.format(error))
            else:
                yield from parser.take()
        if lines.broken or (not lost and parser.is_open):
            yield parser.broken(f"the file breaks off ({lines.broken or 'its end is missing'})")


class _Parser:
    """Finds the pages in the bytes that it is fed."""

    def __init__(self, number: int = 0, start: bytes = b"") -> None:
        self.number = number
        self.refused = False
        self._found: list[Page] = []
        self._path: list[str] = []
        self._page: Page | None = None
        self._pieces: list[str] = []
        self._size = 0
        self._fed = 0
        self._expat = expat.ParserCreate("utf-8")
        self._expat.buffer_text = True
        self._expat.StartDoctypeDeclHandler = self._refuse
        self._expat.EntityDeclHandler = self._refuse
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters
        if start:
            self.feed(start)

    def feed(self, content: bytes) -> None:
        """Go on. Raises ExpatError or _RefusedError; what was found before that can be taken."""
        sound = _NO_XML.sub("\ufffd", content.decode("utf-8", "replace")).encode()
        self._fed += len(sound)
        self._expat.Parse(sound, False)
        # Of a tag that never ends, all would be kept.
        if self._fed - self._expat.CurrentByteIndex > max(_LONGEST_TAG, len(sound)):
            raise _RefusedError(f"it has a tag of more than {_LONGEST_TAG} bytes")

    def take(self) -> list[Page]:
        """The pages that have ended since the last call."""
        found, self._found = self._found, []
        return found

    def broken(self, damage: str) -> Page:
        """The page that cannot be read further."""
        if self._page is None:
            self.number += 1
        return Page(self.number, damage=damage)

    @property
    def is_open(self) -> bool:
        """Whether more should follow."""
        return bool(self._path) or not self._fed

    def _refuse(self, *_: Any) -> None:
        self.refused = True
        raise _RefusedError("it declares a document type or entities, which no dump does: it is not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path and name != "mediawiki":
            raise NoDumpError
        self._path.append(name)
        if len(self._path) > _DEEPEST:
            raise _RefusedError(f"its elements lie more than {_DEEPEST} deep in one another")
        if self._path == ["mediawiki", "page"]:
            self.number += 1
            self._page = Page(self.number)
        elif name == "redirect" and self._page:
            self._page.redirect = True
        self._pieces, self._size = [], 0

    def _characters(self, text: str) -> None:
        if self._page is None:
            return
        self._size += len(text)
        if self._size > LONGEST_PAGE:
            raise _RefusedError(f"it has more than {LONGEST_PAGE} characters")
        self._pieces.append(text)

    def _end(self, name: str) -> None:
        kept = _KEPT.get(tuple(self._path[2:]))
        self._path.pop()
        if self._page and kept:
            setattr(self._page, kept, "".join(self._pieces))
        elif self._page and len(self._path) == 1:
            self._found.append(self._page)
            self._page = None


_KEPT = {
    ("title",): "title",
    ("ns",): "namespace",
    ("revision", "model"): "model",
    ("revision", "text"): "text",
}
"""Elements of a page -> attributes of Page."""


_OPAQUE = (
    "ref references math chem ce gallery timeline score syntaxhighlight source pre imagemap graph mapframe maplink "
    "hiero inputbox templatestyles table"
).split()
_OPAQUE_TAG = re.compile(rf"<(/?)({'|'.join([*_OPAQUE, 'nowiki'])})(?![\w-])([^<>]*)>", re.IGNORECASE)
_COMMENT_ENDS = "-->"
_BRACES = re.compile(r"\{\{|\}\}|^[ \t:*]*\{\||^[ \t]*\|\}", re.MULTILINE)
_LINKS = re.compile(r"\[\[|\]\]")
_VARIANTS = re.compile(r"-\{([^{}]*)\}-")
_PARAMETER = re.compile(r"\{\{\{[^{}]*\}\}\}")
_OUTER = re.compile(r"\[(?:(?:(?:https?|ftp):)?//|mailto:)([^\[\]\n]*)\]")
_QUOTES = re.compile(r"'{2,5}")
_SWITCH = re.compile(r"__[A-Z]{2,30}__")
_BREAK = re.compile(r"<br[ \t]*/?>", re.IGNORECASE)
_LIST = re.compile(r"[*#:;]+[ \t]*")
_EMPTY = re.compile(r"（[ \t，,、;；:：]*）|\([ \t，,、;；:：]*\)|(?<=[（(])[ \t，,、;；:：]+")
_HIDDEN = {
    "file", "image", "media", "category",
    "文件", "檔案", "档案", "图像", "圖像", "图片", "圖片", "媒体", "媒體", "分类", "分類",
}  # fmt: skip
_LANGUAGE = re.compile(r"(?!mw\b)[a-z]{2,3}(?:-[a-z-]{2,12})?")
_WANTED = ("zh-hans", "zh-cn", "zh", "zh-hant", "zh-tw", "zh-hk")
"""Of a word in several variants of Chinese, the one that is kept: the first that is there."""


def plain(wikitext: str) -> str:
    """The text that a reader of an article sees, a paragraph a line.

    Templates, tables, references, formulas, files, categories, headings and comments are left out; of links and of
    words in several variants of Chinese, one text is kept. Entities and HTML tags of a text's own remain.
    """
    text = _without_opaque(_without_comments(wikitext))
    text = _without_braces(_PARAMETER.sub("", text))
    text = _of_links(_VARIANTS.sub(_of_variants, text)).replace("{{", "").replace("}}", "")
    text = _OUTER.sub(_of_outer_link, text)
    text = _BREAK.sub("\n", _SWITCH.sub("", _QUOTES.sub("", text)))
    lines = (
        _LIST.sub("", line, count=1) if _LIST.match(line) else line for line in text.split("\n") if _is_prose(line)
    )
    return "\n".join(kept for line in lines if (kept := _EMPTY.sub("", line).strip()))


def _is_prose(line: str) -> bool:
    """Whether a line is no heading, no rule, and not left of a table that never ends."""
    bare = line.strip()
    return not (bare.startswith(("|", "!", "----")) or (len(bare) > 2 and bare[0] == bare[-1] == "="))


def _without_comments(text: str) -> str:
    pieces, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find(_COMMENT_ENDS, start + 4)) >= 0:
        pieces.append(text[at:start])
        at = end + len(_COMMENT_ENDS)
    return "".join([*pieces, text[at:]])


def _without_opaque(text: str) -> str:
    """A text without the elements that hold no prose; what stands in ``<nowiki>`` is no markup any more."""
    tags = list(_OPAQUE_TAG.finditer(text))
    last = {tag[2].lower(): tag.start() for tag in tags if tag[1]}
    pieces: list[str] = []
    at, inside = 0, ""
    for tag in tags:
        name = tag[2].lower()
        if inside and not (tag[1] and name == inside):
            continue
        if inside:
            if inside == "nowiki":
                pieces.append(_literal(text[at : tag.start()]))
            inside = ""
        else:
            pieces.append(text[at : tag.start()])
            if not tag[1] and not tag[3].endswith("/") and last.get(name, -1) > tag.start():
                inside = name
        at = tag.end()
    return "".join([*pieces, text[at:]])


def _literal(text: str) -> str:
    return "".join(f"&#{ord(each)};" if each in "{}[]|'=*#:;-_<>" else each for each in text)


@dataclass
class _Open:
    """Braces that are open: where they begin, and how many templates are open with them."""

    kind: str
    start: int
    templates: int = field(default=0)


def _without_braces(text: str) -> str:
    """A text without ``{{templates}}`` and ``{|tables|}``, in one another or not; what does not close is none."""
    opened: list[_Open] = []
    spans: list[tuple[int, int]] = []
    at = 0
    while found := _BRACES.search(text, at):
        token, at = found[0].strip(" \t:*"), found.end()
        templates = opened[-1].templates if opened else 0
        if token in ("{{", "{|"):
            opened.append(_Open(token, found.end() - 2, templates + (token == "{{")))
            continue
        if token == "|}" and not (opened and opened[-1].kind == "{|"):
            at = found.end() - 1  # the brace may be one of two
            continue
        if token == "}}" and templates:
            while opened[-1].kind != "{{":  # a table that was not closed within
                opened.pop()
        elif token == "}}":
            continue
        start = opened.pop().start
        while spans and spans[-1][0] >= start:
            spans.pop()
        spans.append((start, at))
    pieces, at = [], 0
    for start, end in spans:
        pieces.append(text[at:start])
        at = end
    return "".join([*pieces, text[at:]])


def _of_variants(found: re.Match[str]) -> str:
    """What is shown of ``-{zh-hans:计算机;zh-hant:電腦}-``: titles and rules of conversion (T, H) are not."""
    flags, bar, body = found[1].rpartition("|")
    if bar and {flag.strip().upper() for flag in flags.split(";")} & {"H", "T", "-"}:
        return ""
    pairs = [each.partition(":") for each in body.split(";") if each.strip()]
    words = {key.strip().lower(): value.strip() for key, colon, value in pairs if colon}
    if not any(key.startswith("zh") for key in words):
        return body
    return next((words[each] for each in _WANTED if each in words), next(iter(words.values())))


def _of_links(text: str) -> str:
    """A text with its links' texts in their places, without files, categories and links to other languages."""
    stack: list[list[str]] = [[]]
    at = 0
    for found in _LINKS.finditer(text):
        stack[-1].append(text[at : found.start()])
        at = found.end()
        if found[0] == "[[":
            stack.append([])
        elif len(stack) > 1:
            stack[-2].append(_of_link("".join(stack.pop())))
    stack[-1].append(text[at:])
    return "".join(piece for pieces in stack for piece in pieces)


def _of_outer_link(found: re.Match[str]) -> str:
    """The text behind an address in brackets."""
    return "".join(found[1].split(None, 1)[1:])


def _of_link(inner: str) -> str:
    target, *parts = inner.split("|")
    prefix, colon, _ = target.strip().partition(":")
    if colon and (prefix.strip().lower() in _HIDDEN or _LANGUAGE.fullmatch(prefix)):
        return ""
    return (parts[-1] if parts else target.strip().removeprefix(":")).strip()
