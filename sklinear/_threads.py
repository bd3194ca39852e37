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

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_fits = 0
_cap: Any = None


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries that are loaded; finding them takes a millisecond."""
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """One BLAS thread while any fit of this process runs."""
    global _fits, _cap
    with _lock:
        if _fits == 0:
            _cap = _blas().limit(limits=1)
        _fits += 1
    try:
        yield
    finally:
        with _lock:
            _fits -= 1
            if _fits == 0:
                _cap.restore_original_limits()
