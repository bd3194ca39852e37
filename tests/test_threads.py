"""Several threads: the same numbers, and nothing of them left after a fit."""

import os
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from sklinear import LinearSVMClassifier, SoftmaxClassifier, _data, _threads
from sklinear._losses import CrossEntropy
from sklinear._solvers import _preconditioner
from sklinear._threads import ordered, single_threaded_blas

MODELS = {
    "softmax": SoftmaxClassifier(alpha=1e-3),
    "hinge": LinearSVMClassifier(loss="hinge", alpha=1e-3),
    "squared hinge": LinearSVMClassifier(loss="squared_hinge", alpha=1e-3),
}


@pytest.fixture
def three_threads(monkeypatch):
    """Three for any data; yields the names of threads that blocks were visited on."""
    names = set()

    def noted(function, *parts):
        def called(*args):
            names.add(threading.current_thread().name)
            return function(*args)

        return ordered(called, *parts)

    monkeypatch.setattr(_threads, "cpu_count", lambda: 3)
    libraries = [SimpleNamespace(num_threads=n) for n in (3, 4)]
    monkeypatch.setattr(_threads, "_libraries", lambda: libraries)
    monkeypatch.setattr(_data, "MANY", 0)
    monkeypatch.setattr(_data, "BLOCK_SCORES", 2**10)
    monkeypatch.setattr(_data, "ordered", noted)
    monkeypatch.setattr(_preconditioner, "ordered", noted)
    monkeypatch.setattr(_preconditioner, "LARGE_BLOCK", 0)
    return names


def samples(kind):
    """Enough rows for several blocks."""
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=3000)
    X = rng.normal(size=(3000, 40)) + 2 * np.eye(4, 40)[y]
    return {"dense": X, "single": X.astype("f4"), "csr": scipy.sparse.csr_array(X)}[
        kind
    ], y


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("kind", ["dense", "single", "csr"])
def test_threads_change_no_bit(name, solver, kind, request, monkeypatch):
    monkeypatch.setattr(_data, "BLOCK_SCORES", 2**10)
    X, y = samples(kind)
    model = MODELS[name].set_params(solver=solver)
    want = model.fit(X, y).coef_.copy()
    used = request.getfixturevalue("three_threads")
    np.testing.assert_array_equal(model.fit(X, y).coef_, want)
    assert len(used) > 1
    assert threading.current_thread().name not in used
    assert not used & {thread.name for thread in threading.enumerate()}


def test_one_thread_where_it_is_all_that_is_allowed(three_threads, monkeypatch):
    monkeypatch.setattr(_threads, "_libraries", lambda: [])  # as BLAS of one thread
    MODELS["softmax"].fit(*samples("dense"))
    assert three_threads == {threading.current_thread().name}


@pytest.mark.usefixtures("three_threads")
def test_fits_side_by_side_take_one_thread_each():
    here = threading.current_thread
    with single_threaded_blas():
        assert here() not in set(ordered(lambda _: here(), range(9)))
        with single_threaded_blas():
            assert set(ordered(lambda _: here(), range(9))) == {here()}


@pytest.mark.usefixtures("three_threads")
def test_a_fit_that_ends_takes_no_threads_from_another():
    under_way, ended = threading.Event(), threading.Event()

    def other():
        under_way.wait(10)
        with single_threaded_blas():
            pass
        ended.set()

    def block(i):
        under_way.set()
        return ended.wait(10) and i

    beside = threading.Thread(target=other)
    beside.start()
    with single_threaded_blas():
        assert list(ordered(block, range(9))) == list(range(9))
    beside.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on Windows")
def test_a_fork_amid_a_fit_leaves_its_child_free():
    before = [lib.num_threads for lib in _threads._libraries()]
    with single_threaded_blas(), _threads._lock:  # as another thread may hold it
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                free = not _threads._lock.locked() and _threads._fits == 0
                now = [lib.num_threads for lib in _threads._libraries()]
                code = 0 if free and now == before else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.usefixtures("three_threads")
def test_an_interrupt_or_an_error_leaves_no_thread():
    def broken(i):
        if i == 3:
            raise ArithmeticError("no block 3")

    before = threading.active_count()
    with pytest.raises(ArithmeticError, match="no block 3"), single_threaded_blas():
        list(ordered(broken, range(9)))

    def interrupted():
        with single_threaded_blas():
            for i in ordered(str, range(9)):
                if i == "2":
                    signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threading.active_count() == before


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_an_interrupted_fit_leaves_nothing_and_can_be_repeated(solver, monkeypatch):
    X, y = samples("dense")
    model = SoftmaxClassifier(alpha=1e-3, solver=solver)
    calls, value = [], CrossEntropy.__call__

    def interrupting(self, scores, labels):
        calls.append(0)
        if len(calls) == 30:  # in the third pass or so, on whichever thread
            signal.raise_signal(signal.SIGINT)
        return value(self, scores, labels)

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(CrossEntropy, "__call__", interrupting)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
    assert threading.active_count() == before
    assert not hasattr(model, "coef_")
    assert model.fit(X, y).dual_gap_ <= model.tol
