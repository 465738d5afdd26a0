"""What a launch does not wait for: to fill the wheel store with what it lacks.

A notebook that names packages for the first time gets a *provisional* overlay: what the store lacks is in it
as files, see ``unpack``. Behind its kernel the same order is then built once more, in the next generation,
as ever: the store is filled, every file is read and compared with its RECORD, bytecode is compiled. The next
launch takes that generation. Where a file was not what it should be, the launch builds once more itself, and
says so; where the store could not be filled for another reason, it goes on with what is there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys

from ..inkernel.shared import layout
from ..inkernel.shared.environment import INDEX_VARIABLE
from ..overlay import store
from ..overlay.skeleton import write_interpreter
from ..system import locks, processes
from .spec import BuildSpec

_WAIT = 10.0  # seconds for a launch of the same notebook


def can_follow(spec: BuildSpec) -> bool:
    """Whether the overlay may be provisional: another generation can come, and no file is known to be wrong.

    Not where files would be copies, which take as long as to fill the store, nor where no lock tells a
    launch that the next generation is being built.
    """
    overlay = spec.generation
    if overlay.behind or not overlay.read(layout.SPEC)["notebook"]:
        return False
    if not locks.is_held(overlay.path / layout.BUILDER_LOCK, exclusively=True):
        return False
    others = store.Store(spec.root).generations(overlay.path.parent)
    return _by_hard_links(spec) and not any(other.found_damage for other in others)


def follow(spec: BuildSpec) -> None:
    """Begin the next generation of the same order, and start its builder.

    Nothing where another one has come since, or it is being built. To be called while the lock of this
    overlay's builder is held, so that a launch sees that it goes on. Raises OSError, and LockTimeout where
    the notebook is being launched for long.
    """
    generation, root = spec.generation, store.Store(spec.root)
    directory = generation.path.parent
    with locks.exclusive(directory / layout.LAUNCH_LOCK, timeout=_WAIT):
        later = itertools.takewhile(lambda one: one != generation, root.generations(directory))
        if any(one.behind != generation or one.state() is store.State.BUILDING for one in later):
            return
        following = root.begin(directory)
        write_interpreter(following.path, spec.base)
        said = {**generation.read(layout.SPEC), layout.BEHIND: generation.path.name}
        following.write(layout.SPEC, said)
        with locks.exclusive(following.path / layout.BUILDER_LOCK) as lock:
            processes.spawn(
                [
                    *(sys.executable, "-m", "kernel_provisioner.builder"),
                    *(str(following.path), "--lock-fd", str(lock.fd)),
                ],
                env={**os.environ, INDEX_VARIABLE: spec.index_template},
                log=following.path / layout.BUILDER_LOG,
                pass_fds=(lock.fd,),
            )


def _by_hard_links(spec: BuildSpec) -> bool:
    """Whether uv has a cache, on the overlay's file system, and nobody wants copies.

    Without one, what has to be fetched takes longer than to fill the store.
    """
    uv = spec.uv
    if uv.env.get("UV_LINK_MODE") == "copy" or not uv.cache:
        return False
    with contextlib.suppress(OSError):
        return uv.cache.stat().st_dev == spec.generation.path.stat().st_dev
    return False
