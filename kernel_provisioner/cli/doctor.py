"""``jupyter overlay doctor``: what is wrong on this machine, with its fix."""

from __future__ import annotations

import dataclasses

from rich.text import Text
from traitlets import Bool

from .checks import NOTE, OK, WRONG, Finding, examine
from .common import OverlayApp

_MARKS = {OK: ("ok", "green"), NOTE: ("note", "yellow"), WRONG: ("WRONG", "bold red")}


class DoctorApp(OverlayApp):
    """Look at hardware, bases, kernels, uv and overlays; say what is wrong, each with its fix.

    Nothing is changed. Exit status: 0 all is well, 1 something is wrong.
    """

    usage = "jupyter overlay doctor [--online] [--json]"
    description = __doc__
    examples = """
    jupyter overlay doctor
    jupyter overlay doctor --online      ask PyTorch's index and the package index too
    """
    flags = {
        **OverlayApp.flags,
        "online": ({"DoctorApp": {"online": True}}, "Ask whether the package indexes can be reached, too."),
    }
    online = Bool(False, help="Ask whether the package indexes can be reached, too.").tag(config=True)

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
