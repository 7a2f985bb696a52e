"""Debian's Chromium, driven by playwright; it asks nobody but this machine."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

SIZE = {"width": 1440, "height": 1000}
WAIT_MS = 60_000
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run", "--disable-dev-shm-usage"]  # fmt: skip


class Browser:
    """One page, and where its screenshots go. Other hosts cannot be reached; `refused` names those asked for."""

    def __init__(self, page: "Page", folder: Path) -> None:
        self.page, self.folder = page, folder
        self.refused: set[str] = set()
        page.route("**/*", self._stay_here)

    def _stay_here(self, route: "Route") -> None:
        host = urlsplit(route.request.url).hostname
        if host in ("127.0.0.1", "localhost", None):
            route.continue_()
        else:
            self.refused.add(host)
            route.abort()

    def open(self, url: str, *texts: str) -> None:
        """Open a page and wait until it shows these texts."""
        self.page.goto(url)
        self.wait_for(*texts)

    def wait_for(self, *texts: str) -> None:
        for text in texts:
            self.page.get_by_text(text).locator("visible=true").first.wait_for(timeout=WAIT_MS)

    def shows(self) -> str:
        """The text that the page shows."""
        return self.page.inner_text("body")

    def screenshot(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@contextmanager
def chromium(folder: Path, prefect_password: str) -> Iterator[Browser]:
    """Open a browser whose screenshots go to `folder`, and which knows the password of Prefect's pages.

    While it is open, asyncio holds this thread's loop to be running: use Prefect's Python client in a subprocess.
    """
    from playwright.sync_api import sync_playwright

    known = base64.b64encode(prefect_password.encode()).decode()
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        try:
            context = program.new_context(viewport=SIZE)
            context.set_default_timeout(WAIT_MS)
            context.add_init_script(f"localStorage.setItem('prefect-password', '{known}')")
            yield Browser(context.new_page(), folder)
        finally:
            program.close()
