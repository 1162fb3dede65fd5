"""A Hub on loopback: enough of its HTTP interface for the real client to make, write and read repositories."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import yaml

from tests.support.hub_state import Commit, Hub, Repository, blob_id
from tests.support.serving import serving

FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


class Refused(Exception):
    """An answer that is an error: its status, code and message."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message


class Cut(Exception):
    """The connection ends without an answer."""


class Handler(BaseHTTPRequestHandler):
    """Answers requests out of the state in `hub`."""

    hub: Hub

    def do_HEAD(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def log_message(self, *_: object) -> None:
        pass

    def serve(self) -> None:
        url = urlparse(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        kind, arguments = route(parts)
        self.hub.asked.append(f"{self.command} {kind} {url.path}")
        self.fault = self.hub.faults[kind].pop(0) if self.hub.faults[kind] else ""
        try:
            body = self.read()
            if self.fault.isdigit():
                raise Refused(int(self.fault), message=f"refused with {self.fault}")
            if self.fault == "echo":
                raise Refused(400, message=f"what is {self.headers['Authorization']}?")
            with self.hub.lock:
                answer = getattr(self, f"on_{kind}")(*arguments, body=body, query=parse_qs(url.query))
            if self.fault == "mute":
                raise Cut
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self.send(refused.status, json.dumps({"error": refused.message}).encode(), headers)
        except Cut:
            pass
        else:
            if answer is not None:
                self.send(200, b"welcome" if self.fault == "text" else json.dumps(answer).encode())
        finally:
            if self.fault.startswith("stall"):
                self.hub.settled.set()

    def read(self) -> bytes:
        """The body of the request, whole."""
        length = int(self.headers.get("Content-Length") or 0)
        how, _, number = self.fault.partition(" ")
        body = b""
        if how in ("cut", "stall"):
            body = self.rfile.read(min(int(number), length))
        if how == "stall":
            self.hub.stalled.set()
            self.hub.resume.wait()
        if how != "cut":
            body += self.rfile.read(length - len(body))
        if how in ("cut", "deaf") or len(body) < length:
            raise Cut
        return body

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.fault == "half" else content)

    # Who asks, and for what

    def user(self) -> str:
        """Who the request's token belongs to; nobody is an empty string."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise Refused(401, message="Invalid credentials in Authorization header")
        return self.hub.tokens.get(token, "")

    def repository(self, name: str, write: bool = False) -> Repository:
        user, found = self.user(), self.hub.repositories.get(name)
        if found is None or (found.private and user != found.owner):
            raise Refused(404 if user else 401, "RepoNotFound", "Repository not found")
        if write and user != found.owner:
            raise Refused(403 if user else 401, message="You don't have the rights to write to this repository")
        return found

    def commit(self, name: str, revision: str, write: bool = False) -> Commit:
        found = self.repository(name, write).find(revision)
        if found is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    # The answers

    def on_unknown(self, **_: Any) -> None:
        raise Refused(404, message="no such page")

    def on_whoami(self, **_: Any) -> dict[str, Any]:
        if not self.user():
            raise Refused(401, message="Invalid username or password.")
        return {"type": "user", "name": self.user(), "orgs": []}

    def on_validate(self, body: bytes, **_: Any) -> dict[str, Any]:
        found = FRONT_MATTER.match(json.loads(body)["content"])
        metadata = yaml.safe_load(found[1]) if found else None
        if not isinstance(metadata, dict):
            return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
        return {"errors": [], "warnings": []}

    def on_create(self, body: bytes, **_: Any) -> dict[str, Any]:
        asked, user = json.loads(body), self.user()
        owner = asked["organization"] or user
        name = f"{owner}/{asked['name']}"
        if not user:
            raise Refused(401, message="Invalid username or password.")
        if owner != user:
            raise Refused(403, message=f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if name in self.hub.repositories:
            raise Refused(409, message="You already created this model repo")
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(owner, private)
        return {"url": f"{self.hub.url}/{name}", "name": name, "id": name}

    def on_info(self, name: str, revision: str = "main", *, query: dict[str, list[str]], **_: Any) -> dict[str, Any]:
        commit = self.commit(name, revision)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.files)]
        if query.get("blobs"):
            for sibling in siblings:
                content = commit.files[sibling["rfilename"]]
                sibling |= {"size": len(content), "blobId": blob_id(content)}
        private = self.hub.repositories[name].private
        return {
            "id": name, "modelId": name, "sha": commit.oid, "private": private, "siblings": siblings, "tags": []
        }  # fmt: skip

    def on_tree(self, name: str, revision: str, folder: str, **_: Any) -> list[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        files = {path: c for path, c in self.commit(name, revision).files.items() if path.startswith(prefix)}
        if folder and not files:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        return [{"type": "file", "path": p, "oid": blob_id(c), "size": len(c)} for p, c in sorted(files.items())]

    def on_refs(self, name: str, **_: Any) -> dict[str, Any]:
        branches = self.repository(name).branches
        listed = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": oid} for b, oid in branches.items()]
        return {"branches": listed, "tags": [], "converts": []}

    def on_branch(self, name: str, branch: str, *, body: bytes, **_: Any) -> dict[str, Any]:
        repository = self.repository(name, write=True)
        if branch in repository.branches:
            raise Refused(409, message=f"Reference already exists: {branch}")
        start = json.loads(body).get("startingPoint", "main")
        repository.branches[branch] = self.commit(name, start).oid
        return {}

    def on_preupload(self, name: str, revision: str, *, body: bytes, **_: Any) -> dict[str, Any]:
        files = self.commit(name, revision, write=True).files
        return {
            "files": [
                {
                    "path": asked["path"],
                    "uploadMode": "regular",
                    "shouldIgnore": False,
                    "oid": blob_id(files[asked["path"]]) if asked["path"] in files else None,
                }
                for asked in json.loads(body)["files"]
            ]
        }

    def on_commit(self, name: str, branch: str, *, body: bytes, **_: Any) -> dict[str, Any]:
        before = self.commit(name, branch, write=True)
        header, *operations = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit", before.oid) != before.oid:
            raise Refused(412, message="A commit has happened since. Please refresh and try again.")
        assert header["key"] == "header"
        assert all(operation["key"] == "file" for operation in operations)
        changed = {
            operation["value"]["path"]: base64.b64decode(operation["value"]["content"], validate=True)
            for operation in operations
        }
        oid = self.hub.repositories[name].commit(changed, header["value"]["summary"], branch)
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "hookOutput": ""}

    def on_resolve(self, name: str, revision: str, path: str, **_: Any) -> None:
        commit = self.commit(name, revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            return self.send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        content = commit.files[path]
        headers["ETag"] = f'"{blob_id(content)}"'
        return self.send(200, content[::-1] if self.fault == "other" else content, headers)


def route(parts: list[str]) -> tuple[str, tuple[str, ...]]:
    """What a path asks for, and the arguments in it."""
    match parts:
        case ["api", "whoami-v2"]:
            return "whoami", ()
        case ["api", "validate-yaml"]:
            return "validate", ()
        case ["api", "repos", "create"]:
            return "create", ()
        case ["api", "models", user, name]:
            return "info", (f"{user}/{name}",)
        case ["api", "models", user, name, "revision", revision]:
            return "info", (f"{user}/{name}", revision)
        case ["api", "models", user, name, "tree", revision, *folder]:
            return "tree", (f"{user}/{name}", revision, "/".join(folder))
        case ["api", "models", user, name, "refs"]:
            return "refs", (f"{user}/{name}",)
        case ["api", "models", user, name, ("branch" | "preupload" | "commit") as kind, revision]:
            return kind, (f"{user}/{name}", revision)
        case [user, name, "resolve", revision, *path] if user != "api":
            return "resolve", (f"{user}/{name}", revision, "/".join(path))
    return "unknown", ()


@contextmanager
def running_hub() -> Iterator[Hub]:
    """An empty Hub, where `TOKEN` belongs to the user `OWNER`."""
    hub = Hub()
    with serving(type("HubHandler", (Handler,), {"hub": hub})) as hub.url:
        try:
            yield hub
        finally:
            hub.resume.set()


@contextmanager
def serve_hub(repositories: Mapping[str, Path]) -> Iterator[str]:
    """Serve each folder as the model repository of its name; yields the endpoint's URL."""
    with running_hub() as hub:
        for name, folder in repositories.items():
            files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
            hub.repositories[name] = Repository(name.partition("/")[0], files=files)
        yield hub.url
