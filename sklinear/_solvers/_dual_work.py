"""Epochs of the hinges on what is left to do: the rows and classes with a multiplier.

A row has a few of them, of up to hundreds of classes. What these touch of V is copied
to where it lies close together, in the order of the features, and copied back when all
rows and classes are to be looked at again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklinear._solvers._dual_blocks import compiled, multipliers
from sklinear._solvers._dual_kernels import Lists, Rows, Scales, State

GAP = 3  # its column of the facts


class Work(NamedTuple):
    """m rows, in all E classes of theirs, the true one at each row's end."""

    rows: np.ndarray  # (m,) int64, which they are, in the order of visits
    facts: np.ndarray  # (m, 4): w, mean' x / (2 alpha), w ||x - mean||^2, gap
    ends: np.ndarray  # (m + 1,) int64, of their classes
    classes: np.ndarray  # (E,) uint32
    a: np.ndarray  # (E,) multipliers; of the true classes 0
    data: np.ndarray  # what is not 0 of the rows
    begins: np.ndarray  # (m + 1,) int64, of each row there
    places: np.ndarray  # uint32, in V of each row's features times its classes
    V: np.ndarray  # (p,)
    features: np.ndarray  # (p,) uint32, where that comes from
    columns: np.ndarray  # (p,) uint32


class Room(NamedTuple):
    """Memory that is used again: fresh pages would take as long as what is done."""

    data: np.ndarray  # (nnz,)
    owners: np.ndarray  # (nnz,) uint32
    offsets: np.ndarray  # (nnz,) uint32
    places: np.ndarray  # (size,) uint32
    V: np.ndarray  # (size,)
    features: np.ndarray  # (size,) uint32
    columns: np.ndarray  # (size,) uint32


def room_for(size: int, rows: Rows, state: State) -> Room:
    """Of so many places and a few more."""
    size, nnz = size + size // 4, len(rows.data)
    owners, offsets = np.empty((2, nnz), np.uint32)
    places, features, columns = np.empty((3, size), np.uint32)
    data, V = np.empty(nnz, rows.data.dtype), np.empty(size, state.V.dtype)
    return Room(data, owners, offsets, places, V, features, columns)


@compiled
def counts_of(rows: Rows, state: State, lists: Lists) -> tuple[np.ndarray, int]:
    """Multipliers above 0 of each row (n,), and the places that they need."""
    A = state.A
    n, k = A.shape
    counts, size = np.zeros(n, np.int64), 0
    for i in range(n):
        count = 0
        if lists.counts[i] >= 0:
            count += lists.counts[i]
        else:
            for j in range(k):
                count += A[i, j] > 0
        counts[i] = count
        if count > 0:
            size += (rows.indptr[i + 1] - rows.indptr[i]) * (count + 1)
    return counts, size


@compiled
def gathered(
    room: Room,
    rows: Rows,
    state: State,
    scales: Scales,
    lists: Lists,
    counts: np.ndarray,
    kept: np.ndarray,
    gaps: np.ndarray,
) -> Work:
    """Of the rows ``kept``, which have multipliers above 0, in this order."""
    A, V = state.A, state.V
    k, d = A.shape[1], len(V)
    m = len(kept)
    ends, begins = np.zeros(m + 1, np.int64), np.zeros(m + 1, np.int64)
    for row in range(m):
        i = kept[row]
        ends[row + 1] = ends[row] + counts[i] + 1
        begins[row + 1] = begins[row] + rows.indptr[i + 1] - rows.indptr[i]
    facts, data = np.empty((m, 4)), room.data
    classes, a = np.empty(ends[m], np.uint32), np.zeros(ends[m])
    first = np.zeros(d + 1, np.int64)  # of each feature's entries
    for row in range(m):
        i, end = kept[row], ends[row]
        if lists.counts[i] < 0:
            for j in range(k):
                if A[i, j] > 0:
                    classes[end] = j
                    end += 1
        else:
            for c in range(lists.counts[i]):
                classes[end] = lists.classes[i, c]
                end += 1
        for e in range(ends[row], end):
            a[e] = A[i, classes[e]]
        classes[end] = rows.y[i]
        w, shift = rows.weights[i], rows.shifts[i] * scales.coef
        facts[row, 0], facts[row, 1], facts[row, 2] = w, shift, w * rows.squares[i]
        facts[row, GAP] = gaps[i]
        start = rows.indptr[i] - begins[row]
        for t in range(begins[row], begins[row + 1]):
            data[t] = rows.data[start + t]
            first[rows.indices[start + t] + 1] += 1
    for f in range(d):
        first[f + 1] += first[f]
    owners, offsets, free = room.owners, room.offsets, first[:d].copy()
    at = 0
    for row in range(m):
        i, count = kept[row], ends[row + 1] - ends[row]
        for t in range(rows.indptr[i], rows.indptr[i + 1]):
            f = rows.indices[t]
            owners[free[f]], offsets[free[f]] = row, at
            free[f] += 1
            at += count
    last, where = np.full(k, -1), np.empty(k, np.uint32)
    found = 0
    for f in range(d):
        for entry in range(first[f], first[f + 1]):
            row, at = owners[entry], offsets[entry]
            for e in range(ends[row], ends[row + 1]):
                j = classes[e]
                if last[j] != f:
                    last[j], where[j] = f, found
                    room.features[found], room.columns[found] = f, j
                    room.V[found] = V[f, j]
                    found += 1
                room.places[at] = where[j]
                at += 1
    return Work(
        kept,
        facts,
        ends,
        classes,
        a,
        data,
        begins,
        room.places,
        room.V[:found],
        room.features[:found],
        room.columns[:found],
    )


@compiled
def missed(work: Work, state: State, lists: Lists) -> tuple[int, int]:
    """How many multipliers above 0 it does not have, and of how many."""
    A = state.A
    n, k = A.shape
    count = found = 0
    for i in range(n):
        if lists.counts[i] < 0:
            for j in range(k):
                count += A[i, j] > 0
        for c in range(lists.counts[i]):
            count += A[i, lists.classes[i, c]] > 0
    for row in range(len(work.rows)):
        i = work.rows[row]
        for e in range(work.ends[row], work.ends[row + 1] - 1):
            found += A[i, work.classes[e]] > 0
    return count - found, count


@compiled
def refreshed(work: Work, state: State, gaps: np.ndarray) -> None:
    """Its numbers as they are now."""
    A, V = state.A, state.V
    for p in range(len(work.V)):
        work.V[p] = V[work.features[p], work.columns[p]]
    for row in range(len(work.rows)):
        i = work.rows[row]
        work.facts[row, GAP] = gaps[i]
        for e in range(work.ends[row], work.ends[row + 1] - 1):
            work.a[e] = A[i, work.classes[e]]


@compiled
def returned(work: Work, state: State, lists: Lists) -> None:
    """Back to where it came from; a list knows what was above 0 when it was made."""
    A, V = state.A, state.V
    for p in range(len(work.V)):
        V[work.features[p], work.columns[p]] = work.V[p]
    for row in range(len(work.rows)):
        i = work.rows[row]
        for e in range(work.ends[row], work.ends[row + 1] - 1):
            j = work.classes[e]
            if work.a[e] > 0 and A[i, j] == 0:
                lists.counts[i] = -1
            A[i, j] = work.a[e]


@compiled
def work_epoch(
    work: Work, state: State, scales: Scales, power: int, left: float
) -> float:
    """Visit the rows of ``work`` whose gap is above ``left``; the sum of all gaps.

    They are noted as they were met.
    """
    r, g, b_ref = state.r, state.g, state.b_ref
    V, places, facts, k = work.V, work.places, work.facts, len(r)
    z, new, change = np.empty(k), np.empty(k), np.empty(k, V.dtype)
    cap = np.inf if power == 2 else 1.0
    ridge = 0.5 * (power - 1)
    stop = at = end = 0
    gaps = 0.0
    for row in range(len(work.rows)):
        start, stop = stop, work.begins[row + 1]
        first, end = end, work.ends[row + 1]
        count, here = end - first - 1, at
        at += (stop - start) * (count + 1)
        if facts[row, GAP] <= left:
            gaps += facts[row, GAP]
            continue
        w, shift = facts[row, 0], facts[row, 1]
        classes, a = work.classes[first:end], work.a[first:end]
        tilt = shift - scales.mean * scales.coef - scales.intercept
        for c in range(count + 1):
            j = classes[c]
            z[c] = b_ref[j] - g[j] + tilt * r[j]
        p = here
        for t in range(start, stop):
            x = work.data[t]
            for c in range(count + 1):
                z[c] += x * V[places[p]]
                p += 1
        own = z[count] - 1
        gap = before = slope = 0.0
        for c in range(count):
            z[c] -= own
            violation = max(z[c], 0.0)
            gap += violation if power == 1 else violation * violation
            gap -= a[c] * (z[c] - 0.5 * ridge * a[c])
            rise = z[c] - ridge * a[c]
            slope += abs(min(max(a[c] + rise, 0.0), cap) - a[c])
            before += a[c]
        facts[row, GAP] = w * gap
        gaps += w * gap
        if slope == 0:
            continue
        h = facts[row, 2] * scales.coef + w * scales.intercept
        for c in range(count):
            z[c] += h * (a[c] + before)
        multipliers(z[:count], h, ridge, cap, before, new[:count])
        rest = 0.0
        for c in range(count):
            u = w * (new[c] - a[c])
            a[c] = new[c]
            rest += u
            r[classes[c]] += u
            g[classes[c]] -= shift * u
            change[c] = scales.coef * u
        y = classes[count]
        r[y] -= rest
        g[y] += shift * rest
        change[count] = -scales.coef * rest
        p = here
        for t in range(start, stop):
            x = work.data[t]
            for c in range(count + 1):
                V[places[p]] -= x * change[c]
                p += 1
    return gaps
