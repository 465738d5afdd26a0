"""Which frames are read to find the program that a kernel is started by."""

from __future__ import annotations

import queue
import threading

from kernel_provisioner.notebook.frames import calling_frames
from tests.support.waiting import WITHIN


def test_of_other_threads_only_those_are_looked_at_that_wait_for_this_one() -> None:
    """The frames of one that goes on running may be gone, and something else in their place."""
    told, end = queue.Queue[set[str]](), threading.Event()

    def here() -> None:
        told.put({frame.f_code.co_name for frame in calling_frames()})

    def goes_on() -> None:
        end.wait()

    def waits() -> None:
        runner = threading.Thread(target=here, name=f"{threading.current_thread().name} - runner")
        runner.start()
        runner.join()

    both = [threading.Thread(target=goes_on), threading.Thread(target=waits)]
    for thread in both:
        thread.start()
    seen = told.get(timeout=WITHIN)
    end.set()
    for thread in both:
        thread.join()
    assert seen >= {"here", "waits"}
    assert "goes_on" not in seen
