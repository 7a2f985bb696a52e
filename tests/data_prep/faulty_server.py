"""A server on this machine that does everything wrong that a server can do, as told, request by request."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """One answer. cut: bytes of the body after which the connection closes; stall: seconds of silence there."""

    status: int | None = None
    cut: int | None = None
    stall: float = 0
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    ignores_range: bool = False
    ignores_condition: bool = False


@dataclass
class FaultyServer:
    """content: what is served, under `etag`; faults: used up one per request, then all is well."""

    content: bytes
    url: str = ""
    etag: str = '"one"'
    faults: deque[Fault] = field(default_factory=deque)
    ranges: list[str | None] = field(default_factory=list)
    sent: int = 0

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        fault = self.faults.popleft() if self.faults else Fault()
        asked = request.headers["Range"]
        self.ranges.append(asked)
        content = self.content if fault.content is None else fault.content
        same = request.headers["If-Range"] in (None, self.etag) or fault.ignores_condition
        start = int(asked[len("bytes=") : -1]) if asked and same and not fault.ignores_range else 0
        headers = {"ETag": self.etag, "Content-Length": str(len(content) - start)}
        status = fault.status or (206 if start else 200)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers |= fault.headers
        request.send_response_only(status)
        for name, value in headers.items():
            if name not in fault.without:
                request.send_header(name, value)
        request.end_headers()
        body = content[start:] if status in (200, 206) else b""
        first = body if fault.cut is None else body[: fault.cut]
        request.wfile.write(first)
        request.wfile.flush()
        self.sent += len(first)
        if fault.cut is not None:
            time.sleep(fault.stall)
            if fault.stall:
                request.wfile.write(body[fault.cut :])
        request.close_connection = True


@contextmanager
def serving(content: bytes) -> Iterator[FaultyServer]:
    """Serve `content` at `url`."""
    told = FaultyServer(content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                told.answer(self)
            except OSError:  # the client gave up first
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        told.url = f"http://127.0.0.1:{server.server_port}/file"
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
