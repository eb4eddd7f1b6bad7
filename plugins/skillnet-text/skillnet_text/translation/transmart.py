"""``transmart``: Tencent's TranSmart over HTTP, for users who have an address and a key of the service.

Texts leave the machine, so nothing is sent unless SKILLNET_TRANSMART_URL and SKILLNET_TRANSMART_KEY are set.
SKILLNET_TRANSMART_RATE is the number of requests a second that all processes of this machine make together.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.files import file_lock, make_folder
from skillnet_cli.untrusted import Untrusted, parse_json, read_bytes

URL, KEY, RATE = "SKILLNET_TRANSMART_URL", "SKILLNET_TRANSMART_KEY", "SKILLNET_TRANSMART_RATE"
USUAL_RATE = 2.0
TRIES = 5
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
TIMEOUT = 60.0
FORGET = 600.0
"""A last request this many seconds in the future can only mean that the clock has since been set back."""

_PASSING = {408, 425, 429, 500, 502, 503, 504}


class _WrongAnswer(Exception):
    """The service's answer is not a list of translations."""


class TranSmart:
    """The service at SKILLNET_TRANSMART_URL; it has one model."""

    identity = "transmart"

    def __init__(self, model: str | None, folder: Path) -> None:
        if model is not None:
            raise UserError(f"translator 'transmart' has no models to choose from: leave out ={model}")
        self._url, self._key = os.environ.get(URL, ""), os.environ.get(KEY, "")
        if urlsplit(self._url).scheme not in ("http", "https") or not self._key:
            raise UserError(f"translator 'transmart' sends the texts to a service: set {URL} (http…) and {KEY}")
        make_folder(folder, "name another with SKILLNET_CACHE")
        self._pace = _Pace(folder / "transmart.pace", rate())

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate a batch, see :class:`skillnet_cli.api.TranslationEngine`.

        A batch that repeatedly gets an unusable answer is sent again in halves; a single text that does so stays
        without a translation.
        """
        try:
            return list(self._asked(texts, source, target))
        except _WrongAnswer:
            if len(texts) == 1:
                return [None]
            half = len(texts) // 2
            return [*self.translate(texts[:half], source, target), *self.translate(texts[half:], source, target)]

    def _asked(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """Ask until there is an answer. Raises FailedJob if none comes, _WrongAnswer if none is usable."""
        reason: Exception = _WrongAnswer()
        for attempt in range(TRIES):
            self._pace.wait()
            delay = FIRST_WAIT * 2**attempt
            try:
                return _translations(self._post(_question(self._key, texts, source, target)), len(texts))
            except _WrongAnswer as error:
                reason = error
            except HTTPError as error:
                delay = max(delay, _refused(error))
                reason = error
            except (URLError, http.client.HTTPException, OSError) as error:
                reason = error
            if attempt < TRIES - 1:
                time.sleep(min(delay, LONGEST_WAIT))
        if isinstance(reason, _WrongAnswer):
            raise reason
        raise FailedJob(
            f"translator 'transmart': given up after {TRIES} tries ({reason}): run the command again to resume, "
            "finished translations are kept"
        ) from reason

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "skillnet"}
        with build_opener(_NoRedirects).open(Request(self._url, body, headers), timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
        return content


class _Pace:
    """At most so many requests a second, over all processes that share the file."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path = path
        self._between = 1 / rate

    def wait(self) -> None:
        """Return when it is this request's turn."""
        with file_lock(self._path.with_name(f"{self._path.name}.lock")):
            now, last = time.time(), self._last()
            turn = max(now, last + self._between) if last < now + FORGET else now
            self._path.write_text(repr(turn))
        time.sleep(max(0.0, turn - time.time()))

    def _last(self) -> float:
        try:
            return float(read_bytes(self._path, 100))
        except (OSError, ValueError):
            return 0.0


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def rate() -> float:
    """Requests per second. Raises UserError if SKILLNET_TRANSMART_RATE is not a number of them."""
    named = os.environ.get(RATE, str(USUAL_RATE))
    try:
        found = float(named)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e6:
        raise UserError(f"{RATE}: '{named}' is not a number of requests per second")
    return found


def _question(key: str, texts: Sequence[str], source: str, target: str) -> bytes:
    """The body of a request."""
    return json.dumps(
        {
            "header": {"fn": "auto_translation", "client_key": key},
            "type": "plain",
            "model_category": "normal",
            "source": {"lang": source, "text_list": list(texts)},
            "target": {"lang": target},
        }
    ).encode()


def _translations(body: bytes, wanted: int) -> list[str]:
    """The translations of an answer. Raises _WrongAnswer if their number is not ``wanted``."""
    try:
        found = parse_json(body)["auto_translation"]
    except (Untrusted, KeyError, TypeError) as error:
        raise _WrongAnswer("an answer without translations") from error
    if not isinstance(found, list) or len(found) != wanted or not all(isinstance(each, str) for each in found):
        raise _WrongAnswer(f"an answer without {wanted} translations")
    return found


def _refused(error: HTTPError) -> float:
    """How long the service asks to wait. Raises UserError if another try is pointless."""
    error.close()
    if error.code not in _PASSING:
        answer = f"the service answers {error.code} {error.reason}"
        raise UserError(f"translator 'transmart': {answer}: check {URL} and {KEY}")
    try:
        return float(error.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0
