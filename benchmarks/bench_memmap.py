"""A fit of a file of images larger than the memory it may take.

Writes uint8 images of ten classes, fits a softmax to their memory map in a child
process, and prints a table in Markdown: the child's peak resident memory above what
it had before, and seconds for one pass beside those for plain reading of the file.
The file is removed at the end.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _data import in_child
from scipy.ndimage import gaussian_filter

from sklinear import SoftmaxClassifier
from sklinear._mapped import Mapped

SIDE, N_CLASSES = 28, 10
CHUNK = 20_000  # rows that are made and written at a time


def write_images(path: Path, n: int) -> np.ndarray:
    """n noisy images of ten smooth templates; returns their labels (n,)."""
    rng = np.random.default_rng(0)
    shape = N_CLASSES, SIDE, SIDE
    templates = gaussian_filter(rng.normal(size=shape), (0, 3, 3)).reshape(10, -1)
    templates *= 8 / templates.std()
    noise = 60 * rng.standard_normal((CHUNK, SIDE * SIDE), dtype=np.float32)
    y = rng.integers(N_CLASSES, size=n, dtype=np.uint8)
    with path.open("wb") as file:
        for start in range(0, n, CHUNK):
            own = y[start : start + CHUNK]
            images = np.roll(noise, rng.integers(noise.size))[: len(own)]
            images = images + (127 + templates[own]).astype(np.float32)
            file.write(np.clip(images, 0, 255).astype(np.uint8).tobytes())
    return y


def plain_read(path: Path, evict: bool) -> float:
    """Seconds to read the file once, from the disk or from what memory has of it."""
    with path.open("rb", buffering=0) as file:
        if evict:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer, start = bytearray(2**22), time.perf_counter()
        while file.readinto(buffer):
            pass
        return time.perf_counter() - start


def resident(field: str) -> int:
    """MB, now (VmRSS) or at most so far (VmHWM)."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) // 1024


class Stopwatch:
    """Notes the seconds between the begin and the end of each pass over a file."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.blocks = Mapped.blocks

    def __call__(self, X: Mapped, step: int, dtype: Any) -> Iterator[Any]:
        """What ``Mapped.blocks`` gives, timed."""
        start = time.perf_counter()
        yield from self.blocks(X, step, dtype)
        self.seconds.append(time.perf_counter() - start)


def fitted(path: Path, y: np.ndarray, alpha: float, tol: float) -> dict[str, Any]:
    """Facts about a fit to the mapped file."""
    X = np.memmap(path, np.uint8, "r", shape=(len(y), SIDE * SIDE))
    before, watch = resident("VmRSS"), Stopwatch()
    Mapped.blocks = lambda self, *args: watch(self, *args)  # type: ignore[method-assign]
    start, cpu = time.perf_counter(), time.process_time()
    model = SoftmaxClassifier(alpha=alpha, tol=tol).fit(X, y)
    return {
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak": resident("VmHWM"),
        "before": before,
        "passes": len(watch.seconds),
        "pass": float(np.median(watch.seconds)),
        "gap": model.dual_gap_,
        "solver": model.solver_,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--alpha", type=float, default=100.0)
    parser.add_argument("--tol", type=float, default=1e-2)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    options = parser.parse_args()
    n = int(options.gigabytes * 1e9 / SIDE**2)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "images.u1"
        y = write_images(path, n)
        cold, warm = plain_read(path, True), plain_read(path, False)
        fit = lambda: fitted(path, y, options.alpha, options.tol)  # noqa: E731
        facts = in_child(fit, 3600)
    print("| GB | rows | reading once, s | again, s | a pass of the fit, s | passes |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| {n * SIDE**2 / 1e9:.1f} | {n} | {cold:.1f} | {warm:.1f} | "
        f"{facts['pass']:.1f} | {facts['passes']} |"
    )
    print()
    print("| solver | gap | whole fit, s | its CPU s | peak resident MB | before |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| {facts['solver']} | {facts['gap']:.1e} | {facts['wall']:.0f} | "
        f"{facts['cpu']:.0f} | {facts['peak']} | {facts['before']} |"
    )


if __name__ == "__main__":
    main()
