"""Requests per second, and the time of a request, of a model behind `mlflow models serve`.

    python -m benchmarks.serving --images DIR [--seconds 60] [--at-once 50] [--size 64]

Trains a small conv4 on the phantom in a home of its own and serves it. Then so many clients at once ask as fast as they
are answered: by turns with a file of DIR, and with the pixels of eight images. Every answer counts; one that is not 200
is lost.
"""

import argparse
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.small_model import REFERENCE, train_small_model

PIXEL_IMAGES = 8


def main() -> None:
    """Print, for each kind of request, their number, those lost, and percentiles of the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--size", type=int, default=64)
    given = parser.parse_args()
    files = [image.read_bytes() for image in sorted(given.images.iterdir())[: given.at_once]]
    pixels = np.random.default_rng(0).integers(0, 256, (PIXEL_IMAGES, 1, given.size, given.size))
    requests = {
        f"a file of {np.median([len(file) for file in files]) / 1e3:.0f} kB": [_record(file) for file in files],
        f"pixels of {PIXEL_IMAGES} images": [json.dumps({"inputs": pixels.tolist()}).encode()],
    }
    with tempfile.TemporaryDirectory() as work:
        server, url = _serve(Path(work), given.size)
        try:
            for kind, bodies in requests.items():
                _report(kind, *_ask_for(url, bodies, given.seconds, given.at_once))
            print(f"memory of the largest process of the server, at its peak: {_peak(server.pid):.0f} MB")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def _record(file: bytes) -> bytes:
    return json.dumps({"dataframe_records": [{"file": base64.b64encode(file).decode()}]}).encode()


def _serve(work: Path, size: int) -> tuple[subprocess.Popen[bytes], str]:
    """Train a model and serve it; return the server, which answers, and the address to ask."""
    variables = train_small_model(work, size)
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # MLflow starts uvicorn
    variables["MLFLOW_TRACKING_URI"] = f"sqlite:///{work / 'home' / 'mlflow.db'}"
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = str(found.getsockname()[1])
    serve = [
        "models",
        "serve",
        "-m",
        f"models:/{REFERENCE}",
        "--env-manager",
        "local",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    with (work / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *serve], env=variables, stdout=log, stderr=log, start_new_session=True
        )
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2)
        except OSError:
            assert server.poll() is None, (work / "log").read_text()
            time.sleep(0.2)
        else:
            return server, f"http://127.0.0.1:{port}/invocations"


def _ask_for(url: str, bodies: list[bytes], seconds: float, at_once: int) -> tuple[dict[str, int], list[float]]:
    """Ask by so many threads; return the number of answers by what they were, and the seconds of each good one."""
    counts, times, lock = defaultdict[str, int](int), list[float](), threading.Lock()
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        while (begun := time.monotonic()) < end:
            request = urllib.request.Request(url, bodies[number % len(bodies)], {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    told = json.loads(answer.read())
                    outcome = "answered" if told["predictions"] else "empty"
            except (OSError, ValueError) as error:
                outcome = f"lost: {error}"
            with lock:
                counts[outcome] += 1
                times.append(time.monotonic() - begun)
            number += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts, times


def _peak(group: int) -> float:
    """Return the peak of memory, in MB, of the largest process of a group (resident set)."""
    states = [Path(f"/proc/{name}") for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    members = [state for state in states if os.getpgid(int(state.name)) == group]
    return max(int((each / "status").read_text().split("VmHWM:")[1].split()[0]) for each in members) / 1e3


def _report(kind: str, counts: dict[str, int], times: list[float]) -> None:
    half, most = np.percentile(times, [50, 99])
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    print(f"{kind}: {outcomes}; 50th percentile {1e3 * half:.0f} ms, 99th {1e3 * most:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
