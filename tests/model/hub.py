"""A hub on the loopback interface: as much of the protocol as huggingface_hub needs to read a repository and commit."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

import yaml

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Hub:
    """The files of every repository, and what was asked of them."""

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that runs until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+|/tree/[^/]+)?/?", path):
            return self._describe(found[1], tree=(found[2] or "").startswith("/tree"))
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self._file(found[1], found[2])
        self._answer(404, {"error": "nothing there"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization") or "someone", asked["name"])))
            self.hub.repositories.setdefault(name, {})
            return self._answer(200, {"url": f"{self.hub.address}/{name}", "id": name})
        if self.path == "/api/validate-yaml":
            valid = isinstance(yaml.safe_load(json.loads(body)["content"].split("---")[1]), dict)
            return self._answer(200 if valid else 400, {"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            regular = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
            return self._answer(200, {"files": regular})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path.partition("?")[0]):
            return self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        self._answer(404, {"error": "nothing there"})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "header":
                self.hub.commits.append(value)
        url = f"{self.hub.address}/{name}/commit/{COMMIT}"
        self._answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

    def _describe(self, name: str, tree: bool) -> None:
        if name not in self.hub.repositories:
            return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        files = self.hub.repositories[name]
        if tree:
            listing = [{"type": "file", "path": path, "size": len(content), "oid": _sha(content)[:40]}
                       for path, content in files.items()]  # fmt: skip
            return self._answer(200, listing)
        self._answer(200, {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]})

    def _file(self, name: str, path: str) -> None:
        content = self.hub.repositories.get(name, {}).get(path)
        if content is None:
            return self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.hub.fetched.append(path)
        self._send(200, content, {"ETag": f'"{_sha(content)[:40]}"', "X-Repo-Commit": COMMIT})

    def _answer(self, code: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._send(code, json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
