"""``jupyter overlay doctor``: what is wrong on this machine, with its fix."""

from __future__ import annotations

import dataclasses

from rich.text import Text
from traitlets import Bool

from ..runs.checks import NOTE, OK, WRONG, Finding, examine
from .common import OverlayApp

_MARKS = {OK: ("ok", "green"), NOTE: ("note", "yellow"), WRONG: ("WRONG", "bold red")}


class DoctorApp(OverlayApp):
    """Check hardware, bases, kernels, uv, overlays and environments, and print a fix for each problem.

    Environments of projects are those that "jupyter overlay venv" made, and the one in the working directory.
    Nothing is changed. Exit status: 0 no problem, 1 at least one problem.
    """

    usage = "jupyter overlay doctor [--online] [--json]"
    description = __doc__
    examples = """
    jupyter overlay doctor
    jupyter overlay doctor --online      also check the package indexes
    """
    flags = {
        **OverlayApp.flags,
        "online": ({"DoctorApp": {"online": True}}, "Ask whether the package indexes can be reached, too."),
    }
    online = Bool(False, help="Also check that the package indexes can be reached.").tag(config=True)

    def run(self) -> int | None:
        """Look; see the class."""
        self.words(0, 0)
        findings = []
        area = ""
        for finding in examine(self.settings, online=self.online):
            findings.append(finding)
            if not self.json_output:
                if finding.area != area:
                    area = finding.area
                    self.console.print(Text(area, style="bold"))
                self._show(finding)
        wrong = sum(finding.level == WRONG for finding in findings)
        verdict = f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong" if wrong else "all is well"
        self.emit([dataclasses.asdict(finding) for finding in findings], [verdict])
        return 1 if wrong else 0

    def _show(self, finding: Finding) -> None:
        mark, style = _MARKS[finding.level]
        self.console.print(Text.assemble("  ", (f"{mark:5}", style), f"  {finding.text}"))
        if finding.fix:
            self.console.print(Text(f"         fix: {finding.fix}"))
