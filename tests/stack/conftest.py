"""One stack and one browser for all tests of this folder; a machine without the programs skips them, CI does not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.browser import Browser, chromium
from tests.stack.stack import Stack, missing_programs, running_stack

SCREENSHOTS = "MEDMTL_SCREENSHOTS"
"""Environment variable: a folder for the screenshots, to look at; else they go with the test."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if missing := missing_programs():
        reason = f"not installed: {', '.join(missing)} (names of Debian packages)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture
def browser(stack: Stack, tmp_path: Path) -> Iterator[Browser]:
    with chromium(Path(os.environ.get(SCREENSHOTS) or tmp_path), stack.prefect.user_password) as opened:
        yield opened


@pytest.fixture(scope="session")
def deployed(stack: Stack) -> Stack:
    """The stack with deployments of short runs, and a worker."""
    stack.deploy("nightly", "train", "study", "predict")
    stack.worker.start()
    stack.worker.wait_until_up()
    return stack
