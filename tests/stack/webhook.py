"""A web server that records what is sent to it, as the receiver of notifications."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """Answers every request with 200; the bodies stand in `received`, the oldest first."""

    def __init__(self) -> None:
        self.received: list[Any] = []  # JSON where it is JSON, else text
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def __enter__(self) -> "Webhook":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                try:
                    received.append(json.loads(text))
                except ValueError:
                    received.append(text)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write no log."""

        return Handler
