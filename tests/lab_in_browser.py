"""JupyterLab as students see it: its server, a browser without a screen, and what is on the page.

The browser is the machine's own Chromium or Chrome; nothing is downloaded. All waits end with the
event they wait for; LIMIT only ends a test that would never end.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masters import ROOT
from playwright.sync_api import Browser, Locator, Page, TimeoutError, sync_playwright

SCREENSHOTS = ROOT / "build" / "screenshots"
if not os.access(ROOT, os.W_OK):  # a read-only checkout
    SCREENSHOTS = Path(tempfile.gettempdir()) / "kfcpo_screenshots"
LIMIT = 600  # seconds; for a machine that has much else to do
LIMIT_OF_A_PICTURE = 120  # it is drawn in a tenth of a second on an idle one
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_WORDS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # all cells are drawn
}


def find_browser() -> str | None:
    """The machine's own Chromium or Chrome."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=find_browser(), args=BROWSER_WORDS, timeout=LIMIT * 1000
        )
        yield started
        started.close()


class Lab:
    """A JupyterLab server of its own, which knows nothing of the user's settings."""

    def __init__(self, root: Path, home: Path) -> None:
        self.token = secrets.token_hex(16)
        self.log = home / "server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with self.log.open("w") as log:
            words = [sys.executable, "-m", *self.words(root)]
            self.process = subprocess.Popen(words, env=_environ(home), stdout=log, stderr=log)

    def words(self, root: Path) -> list[str]:
        """What starts the server."""
        words = [
            *("jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}"),
            *("--ServerApp.port_retries=0", "--expose-app-in-browser"),
            *(f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={self.token}"),
        ]
        is_root = hasattr(os, "geteuid") and os.geteuid() == 0
        return [*words, "--allow-root"] if is_root else words

    def wait_until_up(self) -> None:
        give_up = time.monotonic() + LIMIT
        while time.monotonic() < give_up and self.process.poll() is None:
            try:
                self.ask("api")
            except urllib.error.URLError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()}")

    def ask(self, path: str, method: str = "GET") -> bytes:
        address = f"http://127.0.0.1:{self.port}/{path}"
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(address, method=method, headers=headers)
        without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with without_proxy.open(request, timeout=LIMIT) as reply:
            content: bytes = reply.read()
        return content

    def address(self, notebook: str) -> str:
        """Where a browser finds a notebook, in a workspace without earlier tabs."""
        return f"http://127.0.0.1:{self.port}/lab/tree/{notebook}?token={self.token}&reset"

    def stop_kernels(self) -> None:
        for session in json.loads(self.ask("api/sessions")):
            self.ask(f"api/sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Voila(Lab):
    """A server that shows the notebooks of a folder as apps, without their code."""

    def words(self, root: Path) -> list[str]:
        return [
            *("voila", "--no-browser", "--Voila.ip=127.0.0.1", f"--port={self.port}"),
            *("--Voila.port_retries=0", str(root)),
        ]

    def wait_until_up(self) -> None:
        give_up = time.monotonic() + LIMIT
        while time.monotonic() < give_up and self.process.poll() is None:
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"Voila did not start:\n{self.log.read_text()}")

    def address(self, notebook: str) -> str:
        return f"http://127.0.0.1:{self.port}/voila/render/{notebook}"


def _environ(home: Path) -> dict[str, str]:
    settings = home / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS))
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "IPYTHONDIR": "ipython",
    }
    return os.environ | {name: str(home / folder) for name, folder in own.items()}


# ------------------------------------------------------------------------------------ on the page

READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return Boolean(panel?.context?.isReady && panel.sessionContext?.session?.kernel);
}"""
RUN_ALL = """async limit => {
    const app = window.jupyterapp, panel = app.shell.currentWidget;
    const late = new Promise((_, no) => setTimeout(() => no(Error('still running')), limit));
    await Promise.race([panel.sessionContext.ready, late]);
    await Promise.race([app.commands.execute('notebook:run-all-cells'), late]);
    const code = panel.content.widgets.filter(cell => cell.model.type === 'code');
    return code.filter(cell => cell.model.executionCount === null).length;
}"""
PICTURE = "img.kfcpo-picture"
PANEL = "document.querySelector('.jp-WindowedPanel-outer')"
CHANGED = "([picture, before]) => picture.src !== before && picture.naturalWidth > 0"


def open_and_run(page: Page, address: str) -> int:
    """Open a notebook and run all cells; returns how many of them did not run."""
    page.goto(address)
    page.wait_for_function(READY)
    left: int = page.evaluate(RUN_ALL, LIMIT * 1000)
    return left


def turn(control: Locator) -> None:
    """Turn a control by one step, by keyboard alone; back if it is at its end."""
    kind = control.evaluate("control => control.tagName + (control.type ?? '')")
    if kind == "INPUTcheckbox":
        control.press("Space")
    elif kind.startswith("SELECT"):
        at_end = control.evaluate("menu => menu.selectedIndex === menu.options.length - 1")
        control.press("Space")  # opens it: the arrows on a closed one are taken by JupyterLab
        control.page.keyboard.press("ArrowUp" if at_end else "ArrowDown")
        control.page.keyboard.press("Enter")
    else:
        now, last = (control.get_attribute(f"aria-value{which}") for which in ("now", "max"))
        control.press("ArrowLeft" if now == last else "ArrowRight")


def turn_and_wait(page: Page, explorer: Locator, control: Locator) -> None:
    """Turn a control and wait until its explorer shows another picture."""
    picture = explorer.locator(PICTURE).element_handle()
    before = picture.get_attribute("src")
    turn(control)
    try:
        page.wait_for_function(CHANGED, arg=[picture, before], timeout=LIMIT_OF_A_PICTURE * 1000)
    except TimeoutError:
        where = control.locator("xpath=ancestor::*[contains(@class, 'widget-inline-hbox')]")
        raise AssertionError(f"no other picture after turning {where.inner_text()!r}") from None


def photograph(page: Page, folder: Path, name: str) -> None:
    """Pictures of the whole notebook, one screen after the other."""
    height, seen = page.evaluate(f"[{PANEL}.scrollHeight, {PANEL}.clientHeight]")
    for number, top in enumerate(range(0, height, seen)):
        page.evaluate(f"top => {{ {PANEL}.scrollTop = top; }}", top)
        page.screenshot(path=folder / f"{name}_screen{number:02d}.png")
