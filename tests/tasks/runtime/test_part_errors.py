"""Every failure of a part is one line that gives nothing away; a bug of ours keeps its traceback."""

import importlib
import inspect
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.runtime import part_errors
from tasks.runtime.part_errors import RESUME, ServerError, explain, is_away, reason, without_password

PARTS = ("httpx", "requests.exceptions", "prefect.exceptions", "mlflow.exceptions", "sqlalchemy.exc", "sqlite3")
SECRET = "geheim17"
MESSAGE = (
    f"it failed at http://me:{SECRET}@host/api?token={SECRET}\n"
    f"[SQL: INSERT INTO params VALUES (?)]\n[parameters: ('{SECRET}')]"
)


def fields(kind: type[BaseException]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments with which some exceptions of the parts can be made."""
    yield (MESSAGE,), {}
    yield (), {}
    yield (MESSAGE,), {"request": None, "response": SimpleNamespace(status_code=503)}
    yield (MESSAGE, {}, Exception(MESSAGE)), {}
    yield (MESSAGE, MESSAGE), {}
    yield ({"error_code": "INTERNAL_ERROR", "message": MESSAGE},), {}


@cache
def failures() -> dict[str, BaseException]:
    """One of each exception that the parts have, by its name."""
    found: dict[str, BaseException] = {}
    for part in PARTS:
        for name, kind in inspect.getmembers(importlib.import_module(part), inspect.isclass):
            if not issubclass(kind, Exception) or kind.__module__.split(".")[0] != part.split(".")[0]:
                continue
            for positional, named in fields(kind):
                with suppress(Exception):
                    found.setdefault(f"{part}.{name}", kind(*positional, **named))
    return found


def wrap(error: BaseException, rng: random.Random) -> BaseException:
    for _ in range(rng.randrange(4)):
        outer: Exception = rng.choice([RuntimeError, OSError, ValueError])("outer")
        match rng.randrange(3):
            case 0:
                outer.__cause__ = error
            case 1:
                outer.__context__ = error
            case _ if isinstance(error, Exception):
                outer = ExceptionGroup("several", [ValueError("other"), error])
        error = outer if (outer.__cause__ or outer.__context__ or isinstance(outer, ExceptionGroup)) else error
    return error


def test_the_parts_have_many_failures() -> None:
    assert len(failures()) > 150
    assert {name.split(".")[0] for name in failures()} == {part.split(".")[0] for part in PARTS}


@given(name=st.sampled_from(sorted(failures())), seed=st.integers(0, 2**32))
def test_each_failure_of_a_part_is_one_line_without_values_or_passwords(name: str, seed: int) -> None:
    line = explain(wrap(failures()[name], random.Random(seed)))
    assert line is not None
    assert len(line.splitlines()) == 1
    assert line.endswith(RESUME)
    assert SECRET not in line


def test_every_failure_is_known() -> None:
    assert {name for name, error in failures().items() if explain(error) is None} == set()


@pytest.mark.parametrize("bug", [ValueError, KeyError, TypeError, AssertionError, RuntimeError, ZeroDivisionError])
def test_a_bug_of_ours_keeps_its_traceback(bug: type[Exception]) -> None:
    assert explain(wrap(bug("x"), random.Random(0))) is None


def test_our_own_word_on_a_server_wins() -> None:
    ours = ServerError("the server has ended")
    ours.__cause__ = failures()["httpx.ConnectError"]
    for seed in range(20):
        assert explain(wrap(ours, random.Random(seed))) == "the server has ended"


@pytest.mark.parametrize("variable", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_the_server_is_named_by_whose_it_is(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    monkeypatch.setenv(variable, f"http://me:{SECRET}@127.0.0.1:9/base")
    with pytest.raises(httpx.ConnectError) as caught:
        httpx.get("http://127.0.0.1:9/base/flows", timeout=5)
    line = explain(caught.value)
    name = {"PREFECT_API_URL": "Prefect", "MLFLOW_TRACKING_URI": "MLflow"}[variable]
    assert line == f"{name}'s server at http://127.0.0.1:9/base {part_errors.NOT_THERE}; {RESUME}"
    with pytest.raises(httpx.ConnectError) as caught:
        httpx.get("http://127.0.0.1:9/other", timeout=5)
    assert str(explain(caught.value)).startswith("the server 127.0.0.1:9 ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), part_errors.NOT_THERE),
        (socket.gaierror(-2, "Name or service not known"), "its name is unknown"),
        (TimeoutError("timed out"), "does not answer in time"),
        (ssl.SSLError("wrong version"), "TLS"),
    ],
)
def test_a_reason_is_in_plain_words(error: Exception, words: str) -> None:
    for seed in range(20):
        assert words in reason(wrap(error, random.Random(seed)))
        assert is_away(wrap(error, random.Random(seed))) == (words != "TLS")


def test_a_full_disk_is_the_reason_whatever_part_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_errors.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    for error in failures().values():
        assert "the disk of MEDMTL_HOME is full" in str(explain(error))


@given(user=st.text("ab:/?#@", max_size=8), path=st.text("ab/?#", max_size=8))
def test_no_address_is_shown_with_its_password(user: str, path: str) -> None:
    shown = without_password(f"https://{user}{SECRET}@host/{path}?token={SECRET}")
    assert shown.startswith("https://host/")
    assert SECRET not in shown
