"""Which kernels have imported torch, as the system's list of what a process has loaded tells."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

_TORCH = b"/libtorch_cpu.so"  # which every build of torch for Linux loads when it is imported
_LOOKS = (0.5, 5.0)  # seconds between looks, at first and in the long run
_SLOWER = 1.1
_log = logging.getLogger(__name__)


def has_imported_torch(pid: int) -> bool:
    """Whether a process has loaded torch; raises OSError where it has ended. Takes a millisecond."""
    return _TORCH in Path(f"/proc/{pid}/maps").read_bytes()


class TorchWatch:
    """Looks at kernels every few seconds, on a thread that lasts as long as there is one to look at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[int, Callable[[], bool]] = {}
        self._pause = 0.0
        self._thread: threading.Thread | None = None

    def add(self, pid: int, found: Callable[[], bool]) -> None:
        """Call ``found`` on the thread once a kernel has imported torch, and again while it returns False."""
        with self._lock:
            self._found[pid] = found
            self._pause = _LOOKS[0]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="torch-imported", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        rest = threading.Event()
        while True:
            rest.wait(self._pause)
            with self._lock:
                watched = dict(self._found)
                self._pause = min(self._pause * _SLOWER, _LOOKS[1])
            for pid, found in watched.items():
                if _is_settled(pid, found):
                    with self._lock:
                        if self._found[pid] is found:  # and not that of a kernel which has the number now
                            del self._found[pid]
            with self._lock:
                if not self._found:
                    self._thread = None
                    return


def _is_settled(pid: int, found: Callable[[], bool]) -> bool:
    try:
        return has_imported_torch(pid) and found()
    except OSError:  # it has ended
        return True
    except Exception:  # the edge: whatever became of this one, the others are still looked at
        _log.exception("Kernel %d has imported torch; starting the next ones warm could not be prepared", pid)
        return True
