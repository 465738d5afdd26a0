"""``jupyter overlay export``: a notebook's environment for other tools."""

from __future__ import annotations

import sys
from pathlib import Path

from traitlets import Enum, Unicode

from ..errors import OverlayError, clean
from ..runs.export import FORMS, export
from ..system.files import replace_text
from .common import KernelApp


class ExportApp(KernelApp):
    """Write a notebook's environment for other tools, with exact versions.

    FORMAT is requirements (with hashes, the default), pylock (PEP 751), script (the code with a PEP 723
    block, for uv run; what only IPython runs is a comment in it) or dockerfile (an image with the base's
    packages and the notebook's). The versions are those of the notebook's lock, or the ones that jupyter
    overlay lock would write now. The notebook does not change.
    """

    usage = "jupyter overlay export NOTEBOOK [--format FORMAT] [--output FILE] [--kernel NAME] [--json]"
    description = __doc__
    examples = """
    jupyter overlay export notes.ipynb --output requirements.txt
    jupyter overlay export notes.ipynb --format pylock --output pylock.toml
    jupyter overlay export notes.ipynb --format script --output notes.py
    jupyter overlay export notes.ipynb --format dockerfile --output Dockerfile
    """
    aliases = {
        **KernelApp.aliases,
        "format": "ExportApp.form",
        "output": "ExportApp.output",
    }
    form = Enum(tuple(FORMS), "requirements", help=f"One of {', '.join(FORMS)}; default: requirements.").tag(
        config=True, metavar="FORMAT"
    )
    output = Unicode("", help="The file to write; default: print it.").tag(config=True, metavar="FILE")

    def run(self) -> int | None:
        (name,) = self.words(1, 1)
        with self.working(f"Looking up the packages of {Path(name).name}"):
            made = export(name, self.form, self.settings(), kernel=self.kernel)
        data = {"format": self.form, "base": made.base, "notices": list(made.notices)}
        if not self.output:
            self.emit({**data, "text": made.text}, [])
            if not self.json_output:
                for notice in made.notices:
                    print(clean(notice), file=sys.stderr)
                sys.stdout.buffer.write(made.text.encode("utf-8", "surrogateescape"))  # as --output writes it
            return None
        target = Path(self.output).absolute()
        try:
            replace_text(target, made.text, mode=0o644)
        except OSError as error:
            raise OverlayError(
                f"{target} cannot be written", why=error.strerror or str(error), fix="name another file"
            ) from error
        self.emit({**data, "output": str(target)}, [*made.notices, f"wrote {self.output}"])
        return None
