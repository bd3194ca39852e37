"""Tasks of Dask: who runs them, and errors that say in which block they happened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

SIZE_OF_A_WARNING = "distributed.admin.large-graph-warning-threshold"
NAMED = "_sklinear_block"  # attribute of an error: in which block it happened


def where() -> Any:
    """The scheduler of tasks over rows that were made; None is the current one.

    Rows that Dask's scheduler "processes" has made lie in this process. To send them to
    new processes in every pass takes longer than any pass: here threads do.
    """
    from dask import multiprocessing
    from dask.base import get_scheduler
    from dask.delayed import Delayed

    current = get_scheduler(cls=Delayed)
    return _threads if current is multiprocessing.get else None


def _threads(graph: Any, keys: Any, **kwargs: Any) -> Any:
    """Dask's scheduler "threads", though there be a pool of processes."""
    import dask
    from dask import threaded

    with dask.config.set(pool=None):
        return threaded.get(graph, keys, **kwargs)


def made(wanted: Iterable[Any], blocks: dict[str, Any]) -> list[Any]:
    """What the user's tasks give, where they give it; all of them at once."""
    import dask

    return list(_blamed(lambda: dask.persist(*wanted), blocks, None))


def persisted(wanted: list[Any], blocks: dict[str, Any]) -> list[Any]:
    """What becomes of blocks that were made, where they lie."""
    import dask

    own = where()
    return list(_blamed(lambda: dask.persist(*wanted, scheduler=own), blocks, own))


def computed(wanted: Any, blocks: dict[str, Any]) -> Any:
    """Answers of tasks over blocks that were made."""
    import dask

    own = where()
    return _blamed(lambda: dask.compute(wanted, scheduler=own)[0], blocks, own)


class Dispatch:
    """Runs graphs over rows that were made, one after the other."""

    def __init__(self, blocks: dict[str, Any]):
        self._blocks = blocks
        self._last: Any = None  # the answer of the graph before, on the cluster

    def __call__(self, graph: dict[Any, Any], key: Any) -> Any:
        """The answer ``key`` of a graph."""
        return _blamed(lambda: self._run(graph, key), self._blocks, where())

    def close(self) -> None:
        """Nothing is held any longer."""
        self._blocks, self._last = {}, None

    def _run(self, graph: dict[Any, Any], key: Any) -> Any:
        import dask
        from dask.base import get_scheduler
        from dask.delayed import Delayed

        get = get_scheduler(scheduler=where(), cls=Delayed)
        client = _client_of(get)
        if client is None:
            return get(graph, key)
        with dask.config.set({SIZE_OF_A_WARNING: "1TB"}):  # large params are meant
            future = client.get(graph, key, sync=False)
        # that of the graph before is let go only now: the message that says so would
        # hold up what is sent within 10 ms after it. An interrupt would be lost in its
        # destructor.
        before, self._last = self._last, future
        if before is not None:
            before.release()
        return client.gather(future)


def _client_of(get: Callable[..., Any]) -> Any:
    """The ``distributed.Client`` whose method it is, if any.

    None within a task too, which must let others run while it waits: get sees to that.
    """
    try:
        from distributed import Client, get_worker
    except ImportError:
        return None
    client = getattr(get, "__self__", None)
    if not isinstance(client, Client):
        return None
    try:
        get_worker()
    except ValueError:
        return client
    return None


# Errors -------------------------------------------------------------------------------


def named(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """function(*args), whose error would say in what it happened."""
    try:
        return function(*args)
    except Exception as error:
        raise _renamed(error, what)  # noqa: B904 - it is the same error


def _renamed(error: Exception, what: str) -> Exception:
    """The user's error with ``what`` before its message, or as a note to it.

    The first name stays: it was given where the error happened.
    """
    if NAMED in vars(error):
        return error
    vars(error)[NAMED] = what  # pickled with the error
    if error.args and isinstance(error.args[0], str):
        message, *others = error.args
        error.args = (f"{what}: {message}", *others)
        if what in str(error):
            return error
        error.args = (message, *others)
    error.add_note(what)
    return error


def _blamed(act: Callable[[], Any], blocks: dict[str, Any], scheduler: Any) -> Any:
    """What ``act`` says; where it fails, the block is named.

    A block that cannot be made fails before any code of ours sees it, so that it has to
    be looked for.
    """
    try:
        return act()
    except Exception as error:
        if NAMED in vars(error) or not blocks:
            raise
        failures: list[str | None] = []
        with contextlib.suppress(Exception):  # of whoever runs tasks: no block's fault
            failures = _failures(list(blocks.values()), scheduler)
        if not failures:
            raise
        found = dict(zip(blocks, failures, strict=True))
        failed = [what for what, failure in found.items() if failure]
        same = [what for what in failed if found[what] == _told(error)]
        if not failed:
            names = dict.fromkeys(what.split(" of ")[1] for what in blocks)
            error.add_note(
                f"It happened at work on blocks of {', '.join(names)}: none of them "
                "failed when all were asked for once more."
            )
            raise
        raise _renamed(error, (same or failed)[0])  # noqa: B904 - it is the same error


def _failures(blocks: list[Any], scheduler: Any) -> list[str | None]:
    """How each block fails, all being made at once; None if it does not.

    An empty list if they lie where nobody can be asked.
    """
    import dask
    from dask.base import get_scheduler
    from dask.delayed import Delayed

    client = _client_of(get_scheduler(scheduler=scheduler, cls=Delayed))
    if client is None:
        if any(map(_lies_elsewhere, blocks)):
            return []
        tries = [dask.delayed(_Trial(block))() for block in blocks]
        return list(dask.compute(*tries, scheduler=scheduler))
    from distributed import wait

    if client.status != "running":
        return []
    futures = client.compute([dask.delayed(_nothing)(block) for block in blocks])
    wait(futures)
    if any(future.cancelled() for future in futures):
        return []
    errors = (future.exception() for future in futures)
    return [None if error is None else _told(error) for error in errors]


def _lies_elsewhere(block: Any) -> bool:
    """Whether a block that was made is known by a ``distributed.Future`` only."""
    try:
        from distributed import Future
    except ImportError:
        return False
    return any(isinstance(it, Future) for it in dict(block.__dask_graph__()).values())


class _Trial:
    """All tasks of one block as a single one, which tells how they end."""

    def __init__(self, block: Any):
        from dask.optimization import cull

        self.key = block.key
        self.graph = cull(dict(block.__dask_graph__()), [self.key])[0]

    def __call__(self) -> str | None:
        """How it fails, if it does."""
        from dask.local import get_sync

        try:
            get_sync(self.graph, self.key)
        except Exception as error:
            return _told(error)
        return None


def _told(error: BaseException) -> str:
    """What tells errors of several blocks apart."""
    return f"{type(error).__name__}: {error}"


def _nothing(block: Any) -> None:
    """All that is asked of a block is to be there."""
