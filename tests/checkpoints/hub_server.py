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
        renamed: New name by old name of a repository.
        tokens: Token that a private repository asks for.
        gated: Repositories with access on request.
        cut_after: The CDN closes the connection after so many bytes of each answer in this list,
            which shrinks from the front; the last one stays if ``always_cut``.
        asked: Headers (names in lower case) of the requests for a file's whereabouts.
        fetched: Headers of the requests for its contents.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.refs: dict[tuple[str, str], str] = {}
        self.renamed: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.gated: set[str] = set()
        self.cut_after: list[int] = []
        self.always_cut = False
        self.asked: list[dict[str, str]] = []
        self.fetched: list[dict[str, str]] = []
        self._servers = [_started(_HubHandler, self), _started(_CdnHandler, self)]
        # Two hosts, for huggingface_hub 1.33 tells origins apart by that alone.
        self.endpoint, self.cdn = (
            f'http://{host}:{server.server_port}'
            for host, server in zip(('127.0.0.1', 'localhost'), self._servers)
        )

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
        if repo in hub.renamed:
            target = self.path.replace(repo, hub.renamed[repo], 1)
            return self.answer(307, Location=target)
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
        first = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        start = int(first[1]) if first else 0
        headers = dict(Content_Length=str(len(content) - start), Accept_Ranges='bytes')
        if first:
            headers['Content_Range'] = f'bytes {start}-{len(content) - 1}/{len(content)}'
        self.answer(206 if first else 200, **headers)
        end = len(content)
        if self.hub.cut_after:
            keep = self.hub.always_cut and len(self.hub.cut_after) == 1
            end = start + (self.hub.cut_after[0] if keep else self.hub.cut_after.pop(0))
            self.close_connection = True
        self.wfile.write(content[start:end])
