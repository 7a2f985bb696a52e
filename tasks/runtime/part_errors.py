"""One line for a failure of the parts that medmtl is built on: Prefect, MLflow, their servers and their databases.

Exceptions are recognised by the names of their classes, so that no part is imported for it.
"""

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

HTTP = frozenset({"httpx", "httpcore", "requests", "urllib3", "websockets", "urllib"})
DATABASE = frozenset({"sqlalchemy", "sqlite3", "aiosqlite", "alembic"})
NAMES = {"prefect": "Prefect", "mlflow": "MLflow"} | dict.fromkeys(DATABASE, "the database")
SERVERS = {"PREFECT_API_URL": "Prefect's server", "MLFLOW_TRACKING_URI": "MLflow's server"}
RESUME = "what was finished is kept: run the same command again to resume"
STATUS = {401: ": it wants a password or token", 403: ": it does not let you in", 404: ": no such service there"}
STATUS |= dict.fromkeys((500, 503), ": it is busy, or the database behind it is away, see its log")
NOT_THERE = "is not there: nothing listens at this address"
REASONS = (
    ("SSL|CERTIFICATE", "does not speak TLS as expected"),
    ("gaierror|NameResolution|Errno -", "cannot be found: its name is unknown"),
    ("Refused|Errno 111|All connection attempts failed", NOT_THERE),
    ("Timeout|[Tt]imed out", "does not answer in time"),
    ("JSONDecodeError|valid JSON", "answers something else than its interface does"),
    ("Disconnect|RemoteProtocolError|BadStatusLine|Aborted|ConnectionReset", "breaks off its answers"),
)
"""What the names and messages of errors show, and what to say of the server; the first that fits."""
AWAY = frozenset({"ConnectionError", "TimeoutError", "Timeout", "ChunkedEncodingError", "ProtocolError", "gaierror"})
AWAY |= {"RetryError", "OperationalError"}  # a server that answers nothing but errors, and a database that is away
BUSY = (408, 429)  # statuses of a server that wants to be asked again
FULL_MB = 20
LONGEST = 300  # characters of a message of a part


class ServerError(Exception):
    """A server that this run needs has ended; the message is one line with the remedy."""


def explain(error: BaseException) -> str | None:
    """Return one line for an error that comes from a part; None for any other, which needs a traceback.

    The error may be wrapped in others: its causes are looked at too.
    """
    chain = list(_chain(error))
    if ours := next((each for each in chain if isinstance(each, ServerError)), None):
        return str(ours)
    found = next((each for each in chain if _part(each) in HTTP | NAMES.keys()), None)
    if found is None:
        return None
    if line := _full_disk():
        return line
    address = next(filter(None, map(_address, chain)), "")
    if address or _part(found) in HTTP:
        return f"{_whose(address)} {reason(error)}; {RESUME}"
    return f"{NAMES[_part(found)]}: {_first_line(found)}; {RESUME}"


def reason(error: BaseException) -> str:
    """Say in a few words what is wrong with a server, from the error of its client."""
    chain = list(_chain(error))
    if status := next(filter(None, map(_status, chain)), None):
        return f"answers {status}{STATUS.get(status, '')}"
    told = " ".join(f"{type(each).__name__} {_first_line(each)}" for each in chain)
    known = next((words for signs, words in REASONS if re.search(signs, told)), None)
    answered = "RestException" in told  # MLflow's, for an error in the form of its interface
    return known or f"{'answers with an error' if answered else 'does not answer'} ({_first_line(chain[-1])})"


def is_away(error: BaseException) -> bool:
    """Tell whether a server, or the database behind it, is away or busy for now, so that another attempt may succeed.

    That is a connection that fails or breaks off, no answer in time, and an answer of status 5xx, 408 or 429. What a
    server says about a request, and errors of our own, are not.
    """
    chain = list(_chain(error))
    if ours := [each for each in chain if isinstance(each, sqlite3.Error)]:
        return any(getattr(each, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY for each in ours)
    told = (each.get_http_status_code() for each in chain if type(each).__name__ == "RestException")  # type: ignore[attr-defined]
    if statuses := list(filter(None, (*map(_status, chain), *told))):
        return any(status >= 500 or status in BUSY for status in statuses)
    return any(kind.__name__ in AWAY for each in chain for kind in type(each).__mro__)


def without_password(url: str) -> str:
    """Return an address to show: without a user's name and password, and without what is asked for."""
    return re.split("[?#]", re.sub("//.*@", "//", url), maxsplit=1)[0]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error, those in its group, and those that it was raised from or while handling; each once."""
    seen, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        context = None if each.__suppress_context__ else each.__context__
        inner = (*getattr(each, "exceptions", ()), each.__cause__, context, getattr(each, "orig", None))
        waiting += [one for one in inner if isinstance(one, BaseException)]


def _part(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _status(error: BaseException) -> int | None:
    """Return the status of an HTTP answer that is an error."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and (told := re.search(r"(?:error code|too many) (\d{3})\b", _first_line(error))):
        status = int(told[1])
    return status if isinstance(status, int) and status >= 400 else None


def _address(error: BaseException) -> str:
    """Return the address that a client asked, if the error tells."""
    try:
        return str(getattr(getattr(error, "request", None), "url", ""))
    except RuntimeError:  # httpx raises it where there is no request
        return ""


def _whose(address: str) -> str:
    asked = without_password(address)
    for variable, name in SERVERS.items():
        url = without_password(os.environ.get(variable, ""))
        if url and asked.startswith(url):
            return f"{name} at {url}"
    host = asked.partition("//")[2].partition("/")[0]
    return f"the server {host}" if host else "a server"


def _first_line(error: BaseException) -> str:
    """Return the first line of a message; the others may hold a statement's values. Passwords in addresses go."""
    told = re.split(r"\\n|\[SQL|\[parameters", str(error), maxsplit=1)[0]  # also where a message quotes another
    line = next((line.strip() for line in told.splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"\w+://\S+", lambda url: without_password(url[0]), line)[:LONGEST].rstrip(" .;:")


def _full_disk() -> str | None:
    root = Path(os.environ.get("MEDMTL_HOME") or "~/.medmtl").expanduser()
    try:
        free = shutil.disk_usage(root).free / 1e6
    except OSError:
        return None
    if free > FULL_MB:
        return None
    return f"the disk of MEDMTL_HOME is full ({free:.0f} MB are free in {root}): free some space; {RESUME}"
