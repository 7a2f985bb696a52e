"""The child process of a run's Prefect server: Prefect's application behind a password, on a socket of the parent.

Prefect itself asks for the password below /api only, and not for /api/health; web sockets ask for it in their first
message. The guard here asks for it at every other address, and refuses names of hosts that are not this machine's,
with which a web page could reach the server.
"""

import base64
import hmac
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

PASSWORD = "PREFECT_SERVER_API_AUTH_STRING"  # environment variable of the child; Prefect reads it too
HOSTS = ("127.0.0.1", "localhost")


def authorization(password: str) -> str:
    """Return the header of a request that knows the password ('user:secret')."""
    return f"Basic {base64.b64encode(password.encode()).decode()}"


def guarded(app: App, password: str) -> App:
    """Return `app` behind the password, and only by the names of this machine."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import PlainTextResponse

    expected = authorization(password).encode()

    async def guard(scope: Message, receive: Any, send: Any) -> None:
        given = b"".join(value for name, value in scope.get("headers", ()) if name == b"authorization")
        if scope["type"] == "http" and not hmac.compare_digest(given, expected):
            await PlainTextResponse("Unauthorized", 401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return TrustedHostMiddleware(guard, allowed_hosts=HOSTS, www_redirect=False)


def serve(descriptor: int) -> None:
    """Serve on an open socket until standard input closes or SIGTERM arrives."""
    import uvicorn
    from prefect.server.api.server import create_app

    def stop_with_parent() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock would abort the process at its end
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    app = guarded(create_app(), os.environ[PASSWORD])
    config = uvicorn.Config(
        app, log_level="error", access_log=False, proxy_headers=False, server_header=False, timeout_graceful_shutdown=3
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
