"""JupyterLab and Voila for tests: own port, token, settings and kernels, and gone when the block ends."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90
Address = Callable[[str], str]  # from a notebook's file name to where it opens


@contextmanager
def jupyterlab(folder: Path, scratch: Path) -> Iterator[Address]:
    """Serve the notebooks in `folder`, one document to a page; what the server writes goes to `scratch`."""
    port, token = _free_port(), secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",  # window.jupyterapp, for the driver
    ]  # fmt: skip
    _no_news(scratch)
    with _process(command, scratch, f"http://127.0.0.1:{port}/api"):
        yield lambda name: f"http://127.0.0.1:{port}/doc/tree/{name}?token={token}"


@contextmanager
def voila(folder: Path, scratch: Path) -> Iterator[Address]:
    """Serve the notebooks in `folder` as pages without code; each visit runs the notebook in a kernel of its own."""
    port = _free_port()
    command = [
        sys.executable, "-m", "voila", str(folder), "--no-browser", "--Voila.ip=127.0.0.1", f"--Voila.port={port}",
        "--Voila.port_retries=0", "--show_tracebacks=True",
    ]  # fmt: skip
    with _process(command, scratch, f"http://127.0.0.1:{port}/"):
        yield lambda name: f"http://127.0.0.1:{port}/voila/render/{name}"


def _no_news(scratch: Path) -> None:
    """Neither fetch announcements and updates nor ask, in a popup, whether to do so."""
    settings = scratch / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}\n')


def _environment(scratch: Path) -> dict[str, str]:
    """Nothing of the user's own Jupyter: its kernels, settings and open documents stay out of the test and as they are."""
    own = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "share", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "DIFFTUNING_CACHE": "cache",
    }  # fmt: skip
    paths = {name: str(scratch / place) for name, place in own.items()}
    package = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # the same difftuning as the tests'
    return os.environ | paths | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1", "DIFFTUNING_PROGRESS": "off"}


@contextmanager
def _process(command: list[str], scratch: Path, address: str) -> Iterator[None]:
    """Run a server; it is asked to stop, then made to.  Kernels end with their server, however it ends."""
    scratch.mkdir(parents=True, exist_ok=True)
    log = scratch / "server.log"
    with open(log, "w") as output:
        server = subprocess.Popen(command, env=_environment(scratch), cwd=scratch, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(address, server, log)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # it answers, if only to ask who we are
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start: {' '.join(server.args)}\n{log.read_text()[-3000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
