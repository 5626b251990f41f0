"""A server on this machine that answers downloads as the Hugging Face hub and its CDN do."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAIN, TAGGED = 'a' * 40, 'b' * 40


class HubServer:
    """A hub with its files at ``endpoint`` and their contents on a CDN of another origin.

    Attributes:
        files: Content by (repository, commit, file name).
        refs: Commit by (repository, branch or tag).
        tokens: Token that a private repository asks for.
        gated: Repositories with access on request.
        asked: Headers (names in lower case) of the requests for a file's whereabouts.
        fetched: Headers of the requests for its contents.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.refs: dict[tuple[str, str], str] = {}
        self.tokens: dict[str, str] = {}
        self.gated: set[str] = set()
        self.asked: list[dict[str, str]] = []
        self.fetched: list[dict[str, str]] = []
        self._servers = [_started(_HubHandler, self), _started(_CdnHandler, self)]
        self.endpoint, self.cdn = (f'http://127.0.0.1:{s.server_port}' for s in self._servers)

    def publish(
        self, repo: str, filename: str, content: bytes, ref: str = 'main', commit: str = MAIN
    ) -> str:
        """Add a file; returns its ``hf://`` path."""
        self.files[repo, commit, filename] = content
        self.refs[repo, ref] = commit
        return f'hf://{repo}/{filename}'

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def use_endpoint(monkeypatch, endpoint: str) -> None:
    """Let huggingface_hub, in this process, ask ``endpoint``."""
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', endpoint)
    template = endpoint + '/{repo_id}/resolve/{revision}/{filename}'
    monkeypatch.setattr('huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE', template)


def _started(handler: type[BaseHTTPRequestHandler], hub: HubServer) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(('127.0.0.1', 0), type(handler.__name__, (handler,), {'hub': hub}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = 'HTTP/1.1'

    def lower_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def log_message(self, *_) -> None:
        pass

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header('Content-Length', headers.pop('Content_Length', '0'))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()


class _HubHandler(_Handler):
    def do_HEAD(self) -> None:
        hub = self.hub
        hub.asked.append(self.lower_headers())
        match = re.fullmatch(r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', self.path)
        assert match, self.path
        repo, revision, filename = match.groups()
        commits = {commit for name, commit, _ in hub.files if name == repo}
        given = self.headers.get('authorization', '')
        wanted = hub.tokens.get(repo)
        if given not in ('', f'Bearer {wanted}'):
            message = 'Invalid credentials in Authorization header'
            return self.answer(401, X_Error_Message=message)
        if not commits or (wanted and not given):
            return self.answer(401, X_Error_Code='RepoNotFound', X_Error_Message='Repo not found')
        if repo in hub.gated:
            return self.answer(403, X_Error_Code='GatedRepo', X_Error_Message='Access on request')
        commit = revision if revision in commits else hub.refs.get((repo, revision))
        if commit is None:
            return self.answer(404, X_Error_Code='RevisionNotFound')
        content = hub.files.get((repo, commit, filename))
        if content is None:
            return self.answer(404, X_Error_Code='EntryNotFound', X_Repo_Commit=commit)
        return self.answer(
            302,
            Location=f'{hub.cdn}/{repo}/{commit}/{filename}?signature=1',
            X_Repo_Commit=commit,
            X_Linked_Etag=json.dumps(hashlib.sha256(content).hexdigest()),
            X_Linked_Size=str(len(content)),
        )


class _CdnHandler(_Handler):
    def do_GET(self) -> None:
        self.hub.fetched.append(self.lower_headers())
        org, name, commit, filename = self.path.partition('?')[0].strip('/').split('/', 3)
        content = self.hub.files[f'{org}/{name}', commit, filename]
        self.answer(200, Content_Length=str(len(content)))
        self.wfile.write(content)
