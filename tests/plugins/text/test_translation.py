"""``marian`` against transformers' own way, ``transmart`` against a server of ours that misbehaves."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.plugins import Plugin, build_registry
from skillnet_cli.prepare.translation import open_translation
from skillnet_text import skillnet_translators
from skillnet_text.translation import transmart
from skillnet_text.translation.marian import Marian
from skillnet_text.translation.transmart import KEY, RATE, TRIES, URL, TranSmart

REGISTRY = build_registry([Plugin("text", "skillnet-text", "1", translators=skillnet_translators())])
TEXTS = ["the cat sits", "a dog runs in the park"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentencepiece", reason="the extra 'translate' is not installed")
    from tests.plugins.text.marian_model import make_marian

    return make_marian(tmp_path_factory.mktemp("models") / "opus")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ctranslate2 here."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ctranslate2" else found(name))


@pytest.mark.usefixtures("slow")
def test_without_ctranslate2_the_answers_are_those_of_transformers(model: Path, tmp_path: Path) -> None:
    from transformers import MarianMTModel, MarianTokenizer

    tokenizer = MarianTokenizer.from_pretrained(model)
    batch = tokenizer([f">>cmn_Hans<< {text}" for text in TEXTS], return_tensors="pt", padding=True)
    reference = MarianMTModel.from_pretrained(model).generate(
        **batch, num_beams=4, max_length=62, bad_words_ids=[[tokenizer.pad_token_id], [tokenizer.unk_token_id]]
    )
    found = Marian(str(model), tmp_path).translate(TEXTS, "en", "zh")
    assert found == [text.strip() for text in tokenizer.batch_decode(reference, skip_special_tokens=True)]
    assert len(set(found)) == 2


def test_int8_says_nearly_the_same_and_is_converted_once(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="the extra 'translate' is not installed")
    engine = Marian(str(model), tmp_path)
    found = engine.translate([*TEXTS, "the mat " * 200], "en", "zh")
    slow = Marian(str(model), tmp_path)
    slow._fast = False
    wanted = slow.translate(TEXTS, "en", "zh")
    assert [str(text)[:5] for text in found[:2]] == [str(text)[:5] for text in wanted]
    assert found[2], "a text that is far too long is cut"
    (converted,) = tmp_path.glob("marian-*-int8")
    before = (converted / "model.bin").stat().st_mtime_ns
    assert Marian(str(model), tmp_path).translate(TEXTS, "en", "zh") == found[:2]
    assert (converted / "model.bin").stat().st_mtime_ns == before
    translation = open_translation(f"marian={model}", tmp_path, REGISTRY)
    assert translation is not None and translation.translate(TEXTS) == found[:2]


def test_a_model_is_known_by_its_content(model: Path, tmp_path: Path) -> None:
    import shutil

    same = shutil.copytree(model, tmp_path / "other-name")
    assert Marian(str(same), tmp_path).identity == Marian(str(model), tmp_path).identity
    (same / "config.json").write_text((same / "config.json").read_text() + " ")
    assert Marian(str(same), tmp_path).identity != Marian(str(model), tmp_path).identity


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no vocab\.json or .* not a Marian model"):
        (tmp_path / "config.json").write_text("{}")
        Marian(str(tmp_path), tmp_path).translate(["a"], "en", "zh")
    with pytest.raises(UserError, match="no model 'no/such' .* name a folder"):
        Marian("no/such", tmp_path)


@dataclass
class Service:
    """What the server does with each of the next requests, in order; afterwards it translates."""

    answers: list[Any] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    poison: str = "poison"


class Handler(BaseHTTPRequestHandler):
    service: Service

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.service.seen.append(asked)
        self.service.times.append(time.monotonic())
        texts = asked["source"]["text_list"]
        answer = self.service.answers.pop(0) if self.service.answers else None
        if answer == "drop":
            self.connection.close()
            return
        if isinstance(answer, int):
            return self._answer(answer, b"", {"Retry-After": "0", "Location": "/elsewhere"})
        if answer is None:
            wrong = any(self.service.poison in text for text in texts)
            answer = {"auto_translation": [f"译{text}" for text in texts][: None if not wrong else -1]}
        self._answer(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    service = Service()
    handler = type("Scripted", (Handler,), {"service": service})
    monkeypatch.setattr(transmart, "FIRST_WAIT", 0.001)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv(URL, f"http://127.0.0.1:{running.server_port}/api/imt")
        monkeypatch.setenv(KEY, "a key")
        monkeypatch.setenv(RATE, "5000")
        yield service
        running.shutdown()
        thread.join()


def test_nothing_is_sent_unless_address_and_key_are_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"set {URL}"):
        TranSmart(None, tmp_path)
    monkeypatch.setenv(URL, "file:///etc/passwd")
    monkeypatch.setenv(KEY, "k")
    with pytest.raises(UserError, match=f"set {URL}"):
        TranSmart(None, tmp_path)
    monkeypatch.setenv(URL, "https://example.org/api/imt")
    monkeypatch.setenv(RATE, "many")
    with pytest.raises(UserError, match="not a number of requests"):
        TranSmart(None, tmp_path)
    with pytest.raises(UserError, match="leave out =big"):
        TranSmart("big", tmp_path)


def test_a_service_that_drops_refuses_and_answers_nonsense(service: Service, tmp_path: Path) -> None:
    service.answers = ["drop", 429, 503, b"<html>", None]
    assert TranSmart(None, tmp_path).translate(["a", "b"], "en", "zh") == ["译a", "译b"]
    asked = service.seen[-1]
    assert len(service.seen) == TRIES and asked["source"] == {"lang": "en", "text_list": ["a", "b"]}
    assert asked["target"] == {"lang": "zh"} and asked["header"]["client_key"] == "a key"


def test_one_text_that_is_always_answered_wrongly_costs_only_itself(service: Service, tmp_path: Path) -> None:
    texts = ["a", "b", "poison", "c"]
    assert TranSmart(None, tmp_path).translate(texts, "en", "zh") == ["译a", "译b", None, "译c"]


@pytest.mark.parametrize("answer", ["drop", 500, {"auto_translation": "no list"}])
def test_a_service_that_never_answers_ends_the_job(service: Service, tmp_path: Path, answer: Any) -> None:
    service.answers = [answer] * TRIES
    engine = TranSmart(None, tmp_path)
    if isinstance(answer, dict):
        assert engine.translate(["a"], "en", "zh") == [None]
    else:
        with pytest.raises(FailedJob, match=f"given up after {TRIES} tries"):
            engine.translate(["a"], "en", "zh")
    assert len(service.seen) == TRIES


@pytest.mark.parametrize("status", [302, 401, 404])
def test_a_refusal_that_stays_is_told_at_once(service: Service, tmp_path: Path, status: int) -> None:
    service.answers = [status]
    with pytest.raises(UserError, match=f"answers {status}"):
        TranSmart(None, tmp_path).translate(["a"], "en", "zh")
    assert len(service.seen) == 1


def test_requests_keep_the_pace_over_all_users_of_a_folder(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RATE, "20")
    engines = [TranSmart(None, tmp_path) for _ in range(2)]
    threads = [threading.Thread(target=engine.translate, args=(["a"], "en", "zh")) for engine in engines * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(service.times) == 6 and max(service.times) - min(service.times) >= 5 * 0.05 - 0.02
