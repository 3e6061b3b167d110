"""Locks and forks: a child has one thread, and what the others held in the parent stays locked.

Objects that several threads use derive from ``Locked``: in a child their locks are new ones, open.
That is sound because a thread changes Python's objects one step at a time, and every step leaves
them fit for use: at worst the child does once more what the parent was about to finish.

LLVM is no such object: in the middle of a call it may be in any state. Nor is a module that another
thread imports: the child would wait for the end for ever. So a fork waits until neither is going on
(``no_fork``).
"""

from __future__ import annotations

import os
import threading
import weakref


class Locked:
    """Base of what several threads use, with locks that a child after a fork finds open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _owners.add(self)

    def _renew(self) -> None:
        """Make all locks new ones."""
        self._lock = threading.Lock()


_owners: weakref.WeakSet[Locked] = weakref.WeakSet()


def _after_in_child() -> None:
    no_fork.release()
    for owner in list(_owners):
        owner._renew()


# Held while a thread imports or calls LLVM. A thread may take it again, and may fork while it holds
# it, as a signal handler does.
no_fork = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=no_fork.acquire,
        after_in_parent=no_fork.release,
        after_in_child=_after_in_child,
    )
