"""A hub on this machine: as much of the Hugging Face hub's interface as a download of single files needs."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0" * 39 + "1"


@dataclass
class LocalHub:
    """files: path after the server's name -> content. error: the hub's word for what it answers instead, with 404."""

    files: Mapping[str, bytes]
    url: str = ""
    error: str = ""
    gets: list[str] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        content = None if self.error else self.files.get(request.path)
        if request.command == "GET":
            self.gets.append(request.path)
        if content is None:
            request.send_response_only(403 if self.error == "GatedRepo" else 404)
            request.send_header("X-Error-Code", self.error or "EntryNotFound")
            request.send_header("X-Repo-Commit", COMMIT)
            content = b""
        else:
            request.send_response_only(200)
            request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)


@contextmanager
def serving_hub(files: Mapping[str, bytes]) -> Iterator[LocalHub]:
    """Serve `files` at `url`."""
    told = LocalHub(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        told.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
