"""The routes under ``torch-overlay/``; ``openapi.json`` describes them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import HTTPError, authenticated

from ..base.registry import read_register
from ..collector import Policy, account, collect, scan
from ..errors import OverlayError
from ..hardware import detect
from ..overlay import store
from ..overlay.added import forget
from ..runs import bases
from ..runs.builds import cancel
from ..runs.changes import changes_of
from ..runs.checks import examine
from ..runs.disk import account_data, collected_data, overlay_data
from ..runs.environment import environment_of
from ..runs.locking import LockSubject
from ..runs.log import log_of
from ..runs.names import known_names
from ..runs.versions import versions_of
from ..settings import Settings
from .builds import Builds
from .edits import EditedRoute, EditRoute, Edits, EditsRoute
from .events import Events
from .handler import OverlayHandler, Served, reads
from .tasks import Step, Tasks

SUBJECT: dict[str, type] = {"path": str, "kernel": str, "kernel_id": str, "content": dict}
"""The fields of a body that speak of a notebook."""

_DESCRIPTION = Path(__file__).with_name("openapi.json")


class OpenApi(OverlayHandler):
    """What this API is."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """The description, as OpenAPI has it."""
        self.finish(_DESCRIPTION.read_text(encoding="utf-8"))


class EnvironmentRoute(OverlayHandler):
    """A notebook's environment as it is."""

    @authenticated
    @reads
    async def post(self) -> None:
        """How it stands; a build that is under way is told of by events from now on."""
        body = self.body(**SUBJECT, details=bool)
        subject = await self.subject(body)
        details = body.get("details", False)
        try:
            state = await self.aside(lambda: environment_of(subject, self.in_force(), details=details))
        except OverlayError as error:
            self.refuse(error)
            return
        overlay = subject.running or (state["overlay"]["path"] and Path(state["overlay"]["path"]))
        if state["progress"] and overlay:
            self.served.builds.follow(body["path"], overlay)
        self.finish({**state, "notebook": body["path"]})


class ChangesRoute(OverlayHandler):
    """What a change of a notebook's declarations would do."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Look it up: a task. Reading does not do: what there is as source alone may be built for it."""
        body = self.body(**SUBJECT, upgrade=bool, forget=list)
        subject = await self.subject(body)
        upgrade, gone = body.get("upgrade", False), _names(body, "forget")

        def work(settings: Settings, step: Step) -> Any:
            step("Looking up what would change")
            return changes_of(subject, settings, upgrade=upgrade, forget=gone)

        self.begin("changes", work)


class ForgetRoute(OverlayHandler):
    """What ``%overlay add`` has added, and the notebook does not declare."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """No longer keep packages of these names: a restart does not bring them back."""
        body = self.body(**SUBJECT, names=list)
        subject, names = await self.subject(body), _names(body, "names")
        await self.answer(
            lambda settings: {
                "forgotten": forget(store.Store(_root(settings)).notebook_dir(subject.path), names)
            }
        )


class LockRoute(OverlayHandler):
    """A notebook's lock."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Make it: a task. The client writes it into the notebook that it has open."""
        body = self.body(**SUBJECT, upgrade=bool)
        subject = await self.subject(body)
        upgrade = body.get("upgrade", False)

        def work(settings: Settings, step: Step) -> Any:
            step("Looking up and checking every package")
            urls = settings.policy.urls
            if subject.content is None:
                to_lock = LockSubject.read(subject.path, allow_urls=urls)
            else:
                to_lock = LockSubject.of(subject.path, subject.content, allow_urls=urls)
            lock, base, notices = to_lock.lock(
                settings, kernel=subject.kernel.name, upgrade=upgrade, exclude_newer=""
            )
            before = to_lock.old.pins if to_lock.old else {}
            return {"lock": lock.as_dict(), "base": base, "before": before, "notices": notices}

        self.begin("lock", work)


class VersionsRoute(OverlayHandler):
    """The versions of a package."""

    @authenticated
    @reads
    async def post(self) -> None:
        """Look up the newest ones: a task."""
        body = self.body(**SUBJECT, name=str)
        subject = await self.subject(body)
        name = body.get("name", "")

        def work(settings: Settings, step: Step) -> Any:
            step(f"Looking up the versions of {name[:80]}")
            return {"versions": versions_of(name, subject, settings)}

        self.begin("versions", work)


class CancelRoute(OverlayHandler):
    """The build of a notebook's environment."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Cancel it; its cells fail, and the next start of the kernel builds again."""
        subject = await self.subject(self.body(**SUBJECT))
        await self.answer(lambda settings: {"cancelled": cancel(subject, settings)})


class LogRoute(OverlayHandler):
    """What the builder of a notebook's environment did."""

    @authenticated
    @reads
    async def post(self) -> None:
        """Its steps and its output."""
        subject = await self.subject(self.body(**SUBJECT))
        await self.answer(lambda settings: log_of(subject, settings))


class TaskRoute(OverlayHandler):
    """Long work that was begun."""

    @authenticated
    @authorized
    async def get(self, name: str) -> None:
        """How it goes."""
        self.finish(self._task(name).as_dict())

    @authenticated
    @authorized
    async def delete(self, name: str) -> None:
        """Cancel it."""
        self.served.tasks.cancel(self._task(name))
        self.set_status(204)
        self.finish()

    def _task(self, name: str) -> Any:
        task = self.served.tasks.get(name)
        if task is None:
            raise HTTPError(404, "there is no such task, or it ended long ago")
        return task


class BasesRoute(OverlayHandler):
    """The registered bases."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """All of them."""

        def listed(_: Settings) -> Any:
            register = read_register()
            return [bases.described(base, register) for base in register.bases]

        await self.answer(listed)

    @authenticated
    @authorized
    async def post(self) -> None:
        """Make one for the user of this server: a task."""
        body = self.body(tag=str, torch=str)
        if "tag" not in body:
            raise HTTPError(400, "tag is missing")

        def work(settings: Settings, step: Step) -> Any:
            return bases.created_data(
                bases.create(body["tag"], settings, torch=body.get("torch", ""), progress=step)
            )

        self.begin("base", work)


class HardwareRoute(OverlayHandler):
    """This machine's accelerators."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """As they are at this moment, with what memory is free."""
        await self.answer(lambda _: detect().as_dict())


class NamesRoute(OverlayHandler):
    """Names of packages that this machine knows."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """From its bases and overlays, for a field that completes them."""
        await self.answer(known_names)


class DiskRoute(OverlayHandler):
    """What all environments take on disk."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Measured now."""
        await self.answer(lambda settings: account_data(account(_root(settings), read_register().bases)))


class OverlaysRoute(OverlayHandler):
    """All overlays of this user."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """How each stands."""
        await self.answer(
            lambda settings: [
                overlay_data(overlay, found)
                for overlay in scan(_root(settings))
                for found in overlay.generations
            ]
        )


class PruneRoute(OverlayHandler):
    """The removal of unused overlays."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Remove them, or only say which: a task."""
        body = self.body(dry_run=bool, older_than=float, everything=bool)

        def work(settings: Settings, step: Step) -> Any:
            dry_run = body.get("dry_run", True)
            policy = Policy(body.get("older_than"), body.get("everything", False))
            collected = collect(
                _root(settings),
                policy,
                now=time.time(),
                dry_run=dry_run,
                tell=lambda removed: step(f"Removing {removed.path}"),
            )
            return collected_data(collected, dry_run=dry_run)

        self.begin("prune", work)


class DoctorRoute(OverlayHandler):
    """What is wrong on this machine."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Each finding with its fix; no package index is asked."""
        findings = await self.aside(lambda: [vars(found) for found in examine(self.in_force, online=False)])
        self.finish(json.dumps(findings))


ROUTES: tuple[tuple[str, type[OverlayHandler]], ...] = (
    ("openapi.json", OpenApi),
    ("environment", EnvironmentRoute),
    ("changes", ChangesRoute),
    ("forget", ForgetRoute),
    ("lock", LockRoute),
    ("versions", VersionsRoute),
    ("build/cancel", CancelRoute),
    ("log", LogRoute),
    ("edits", EditsRoute),
    ("edits/([0-9a-f]{1,64})", EditRoute),
    ("edits/([0-9a-f]{1,64})/done", EditedRoute),
    ("tasks/([0-9a-f]{1,64})", TaskRoute),
    ("bases", BasesRoute),
    ("hardware", HardwareRoute),
    ("names", NamesRoute),
    ("disk", DiskRoute),
    ("overlays", OverlaysRoute),
    ("prune", PruneRoute),
    ("doctor", DoctorRoute),
)


def add_routes(serverapp: Any) -> None:
    """Serve all routes on a server."""
    from jupyter_server.utils import url_path_join

    loop = serverapp.io_loop.asyncio_loop
    events = Events(getattr(serverapp, "event_logger", None), loop)
    executor = ThreadPoolExecutor(8, thread_name_prefix="torch-overlay-rest")
    served = Served(executor, Tasks(events), Builds(events), Edits(events))
    base = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, "torch-overlay", path), handler, {"served": served})
            for path, handler in ROUTES
        ],
    )


def _names(body: dict[str, Any], field: str) -> list[str]:
    """The names of packages in a field of a body; refuses what is none."""
    names: list[Any] = body.get(field, [])
    if not all(isinstance(name, str) for name in names):
        raise HTTPError(400, f"{field} holds what is not a name")
    return names


def _root(settings: Settings) -> Path:
    return Path(settings.overlay_root)
