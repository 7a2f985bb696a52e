"""A server that cannot be used is said in one line before any work, with its variable and without its password."""

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from data_prep.errors import DataError
from tasks.runtime.servers import check_mlflow, check_prefect, sqlite_path

CHECKS = {"PREFECT_API_URL": check_prefect, "MLFLOW_TRACKING_URI": check_mlflow}
BODIES = (b"", b"<html>hello</html>", b"{}", b"[]", b"null", b"[1]", b'"text"', b"{", b"\xff\xfe", b"[" * 9999)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def refusal(variable: str, url: str) -> str:
    with pytest.raises(DataError) as refused:
        CHECKS[variable](url)
    line = str(refused.value)
    assert line.startswith(f"{variable}: the server at ")
    assert f"unset {variable}" in line
    assert len(line.splitlines()) == 1
    assert "geheim17" not in line
    return line


@cache
def drawn(seed: int) -> tuple[int, bytes]:
    rng = random.Random(seed)
    return rng.choice([400, 401, 403, 404, 405, 410, 418, 429, 500, 502, 503, 504, *range(400, 600)]), rng.choice(
        BODIES
    )


@pytest.mark.parametrize("variable", CHECKS)
@pytest.mark.parametrize("seed", range(12))
def test_an_answer_that_is_an_error_is_named(variable: str, seed: int) -> None:
    status, body = drawn(seed)
    with answering(status, body) as place:
        line = refusal(variable, f"http://me:geheim17@{place}/api")
    assert f"answers {status}" in line or ("answers with an error" in line and body == b"{}")


@pytest.mark.parametrize("variable", CHECKS)
@pytest.mark.parametrize("body", BODIES)
def test_another_program_at_the_address_is_not_taken_for_the_server(variable: str, body: bytes) -> None:
    with answering(200, body) as place:
        refusal(variable, f"http://{place}")


@pytest.mark.parametrize("variable", CHECKS)
@pytest.mark.parametrize("url", ["http://no-such-host.invalid/api", "http://[::1", "nonsense", "ftp://a/b", "http://"])
def test_an_address_that_is_none_is_named(variable: str, url: str) -> None:
    with pytest.raises(DataError, match=f"^{variable}: "):
        CHECKS[variable](url)


def refuse(_: socket.socket) -> bool:
    return False


def stay_silent(_: socket.socket) -> bool:
    return True


def trickle(bound: socket.socket) -> bool:
    def run() -> None:
        client, _ = bound.accept()
        try:
            while True:
                client.send(b"H")
                threading.Event().wait(0.5)
        except OSError:
            pass

    threading.Thread(target=run, daemon=True).start()
    return True


def hang_up(bound: socket.socket) -> bool:
    def run() -> None:
        for _ in range(4):
            bound.accept()[0].close()

    threading.Thread(target=run, daemon=True).start()
    return True


@pytest.mark.slow
@pytest.mark.parametrize("variable", CHECKS)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("behave", [refuse, stay_silent, trickle, hang_up])
def test_a_server_that_does_not_talk_is_given_up(
    variable: str, scheme: str, behave: Callable[[socket.socket], Any]
) -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{bound.getsockname()[1]}"
    if not behave(bound):
        bound.close()
    refusal(variable, f"{scheme}://me:geheim17@{place}/api")
    bound.close()


def test_the_file_of_a_database_is_what_its_address_says() -> None:
    for uri, path in (
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///b.db?timeout=5", "b.db"),
        ("sqlite://", None),
        ("sqlite:///", None),
        ("http://a/b", None),
    ):
        found = sqlite_path(uri)
        assert (found and str(found)) == path
