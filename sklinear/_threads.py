"""One BLAS thread while fitting.

Two threads on products as small as a block's can be many times slower than one, on a
shared machine above all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_fits = 0
_cap: Any = None


@cache
def _blas() -> Any:
    """The BLAS libraries that are loaded; finding them takes a millisecond."""
    from threadpoolctl import ThreadpoolController  # scikit-learn requires it

    return ThreadpoolController().select(user_api="blas")


def _anyone_may_set() -> None:
    """From 3.7 on threadpoolctl obeys the one thread that came first; any may here."""
    from threadpoolctl import OpenBLASController

    release = getattr(OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """One BLAS thread while any fit of this process runs, as many as before after."""
    global _fits, _cap
    with _lock:
        if _fits == 0:
            _anyone_may_set()
            _cap = _blas().limit(limits=1)
        _fits += 1
    try:
        yield
    finally:
        with _lock:
            _fits -= 1
            if _fits == 0:
                _anyone_may_set()
                _cap.restore_original_limits()
                _anyone_may_set()
