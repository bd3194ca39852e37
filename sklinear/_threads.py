"""One BLAS thread while fitting, and several threads for blocks where these are many.

Two threads on products as small as a block's can be many times slower than one, on a
shared machine above all. Blocks are independent: as many are worked on at a time as
BLAS would take threads, so that whatever limits those limits these.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_fits = 0
_cap: Any = None
_allowed = 1  # threads
_pool: ThreadPoolExecutor | None = None


def _after_fork() -> None:
    """A child has none of the threads that its parent's fits ran on."""
    global _lock, _fits, _pool
    _lock, running = threading.Lock(), _fits
    _fits, _pool = 0, None
    if running:
        _anyone_may_set()
        _cap.restore_original_limits()


if hasattr(os, "register_at_fork"):  # there is none on Windows
    os.register_at_fork(after_in_child=_after_fork)


@cache
def _blas() -> Any:
    """The BLAS libraries that are loaded; finding them takes a millisecond."""
    from threadpoolctl import ThreadpoolController  # scikit-learn requires it

    return ThreadpoolController().select(user_api="blas")


def _libraries() -> list[Any]:
    """Each of the BLAS libraries."""
    return _blas().lib_controllers


def ordered(function: Callable[..., Any], *parts: Iterable[Any]) -> Iterator[Any]:
    """``map``, on the threads of this process's fit where no other fit is running."""
    global _pool
    with _lock:
        count = min(_allowed, cpu_count()) if _fits == 1 else 1
        if count > 1 and _pool is None:
            _pool = ThreadPoolExecutor(count)
        pool = _pool if count > 1 else None
    return map(function, *parts) if pool is None else pool.map(function, *parts)


@cache
def cpu_count() -> int:
    """Cores that this process may use."""
    import joblib  # scikit-learn requires it

    return joblib.cpu_count()


def _anyone_may_set() -> None:
    """From 3.7 on threadpoolctl obeys the one thread that came first; any may here."""
    from threadpoolctl import OpenBLASController

    release = getattr(OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """One BLAS thread while any fit of this process runs, as many as before after."""
    global _fits, _cap, _allowed, _pool
    with _lock:
        if _fits == 0:
            _anyone_may_set()
            _allowed = min((lib.num_threads for lib in _libraries()), default=1)
            _cap = _blas().limit(limits=1)
        _fits += 1
    try:
        yield
    finally:
        with _lock:
            _fits = max(_fits - 1, 0)  # a fork may have forgotten them
            if _fits == 0:  # another fit may have blocks on these threads
                pool, _pool = _pool, None
                if pool is not None:
                    pool.shutdown(cancel_futures=True)
                _anyone_may_set()
                _cap.restore_original_limits()
                _anyone_may_set()
