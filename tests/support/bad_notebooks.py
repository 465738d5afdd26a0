"""Notebooks that nobody should trust, and how each is answered; values of our own for every kind.

A block is what stands under ``torch_env``. What no ``json.dumps`` would write is given as text,
what is no notebook at all as the bytes of the file.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

Content = bytes | Callable[[Path], object]
"""The bytes of a notebook file, or what makes something else of that name."""


def notebook(block: object) -> bytes:
    """A notebook with this block, as an editor writes it."""
    return written(json.dumps(block))


def written(block: str) -> bytes:
    """A notebook whose block is this very text."""
    return (
        f'{{"cells": [], "metadata": {{"torch_env": {block}}}, "nbformat": 4, "nbformat_minor": 5}}'.encode()
    )


def extras(*items: object) -> bytes:
    """A notebook that declares these extras."""
    return notebook({"extras": list(items)})


def _accelerator(name: object) -> bytes:
    return notebook({"accelerator": name})


def scripts(*blocks: str) -> bytes:
    """A notebook without a block, and a code cell with PEP 723 text for each of ``blocks``."""
    cells: list[dict[str, object]] = [
        {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": block}
        for block in blocks
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


SILENT: dict[str, Content] = {
    "no block": b'{"cells": [], "metadata": {"kernelspec": {"name": "torch"}}, "nbformat": 4}',
    "null": notebook(None),
    "an empty object": notebook({}),
    "empty extras": extras(),
    "metadata are a list": b'{"cells": [], "metadata": [], "nbformat": 4}',
    "a byte order mark": b"\xef\xbb\xbf" + notebook({"extras": []}),
}
"""The base alone, without a word."""

TOLD: dict[str, tuple[Content, str]] = {
    "cut off": (notebook({"extras": ["einops"]})[:-20], "it is not JSON"),
    "an empty file": (b"", "it is not JSON"),
    "a list of a notebook": (b"[]", "a notebook is a JSON object"),
    "compressed": (gzip.compress(notebook({})), "compressed with gzip"),
    "zeros": (b"\0" * 4096, "it is not JSON"),
    "Latin-1": (notebook({}).replace(b"cells", b"c\xe9lls"), "it is not UTF-8 text"),
    "a hundred thousand brackets": (b"[" * 100_000, "nested too deeply"),
    "brackets inside": (written('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"), "nested too deeply"),
    "a number of 5000 digits": (written("9" * 5000), "digits"),
    "larger than the limit": (lambda path: _sparse(path, 1 << 30), "the limit is"),
    "a folder": (Path.mkdir, "it is a directory"),
    "a pipe": (os.mkfifo, "it is a named pipe"),
    "gone": (lambda _: None, "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
}
"""The base alone, and one line that says why."""

IGNORED: dict[str, tuple[Content, tuple[str, ...]]] = {
    "a slip of the pen": (notebook({"extra": ["einops"]}), ("'extra'", "did you mean 'extras'")),
    "where packages come from": (
        notebook({"index-url": "http://192.0.2.1/"}),
        ("'index-url'", "only the owner"),
    ),
    "what the kernel is started with": (
        notebook({"argv": ["sh"], "env": {"A": "1"}, "python": "/bin/false", "LD_PRELOAD": "/tmp/x.so"}),
        ("'argv'", "'env'", "'python'", "'LD_PRELOAD'", "only the owner"),
    ),
    "what is allowed": (
        notebook({"allow_build": True, "trusted": 1, "timeout": 1e9, "overlay_path": "/etc"}),
        ("'allow_build'", "'trusted'", "'timeout'", "'overlay_path'", "only the owner"),
    ),
    "a thousand keys": (notebook({f"key{n}": n for n in range(1000)}), ("995 more unknown keys",)),
}
"""Accepted; the keys that nothing reads are named."""

BAD_EXTRAS: dict[str, tuple[object, str]] = {
    "a number": (2, "is a number, not a string"),
    "a list": (["einops"], "is a list, not a string"),
    "empty": ("", "is empty"),
    "blank": (" \t ", "is empty"),
    "too long": ("e" * 600, "is 600 characters long; the limit is 512"),
    "an index option": ("--index-url=http://192.0.2.1/", "is an option"),
    "a requirements file": ("-r /etc/hostname", "is an option"),
    "editable": ("-e .", "is an option"),
    "the folder itself": (".", "is a path"),
    "a folder of wheels": ("--find-links /tmp", "is an option"),
    "a second line": ("einops\n--extra-index-url http://192.0.2.1", "line break"),
    "a line end of Windows": ("einops\r\ntqdm", "line break"),
    "a zero byte": ("einops\0", "control character"),
    "a URL with a password": ("x @ https://me:hunter2@192.0.2.1/x.whl", "'x @ https://****@192.0.2.1/x.whl'"),
    "a repository": ("git+ssh://git@192.0.2.1/x.git", "is a URL"),
    "a file URL": ("x @ file:///etc/hostname", "is a URL"),
    "a secret of the environment": ("einops==${HF_TOKEN}", "refers to an environment variable"),
    "a path upwards": ("../../x", "is a path"),
    "a wheel": ("/srv/x-1-py3-none-any.whl", "is a path"),
    "a wheel of this folder": ("x-1-py3-none-any.whl", "is a path"),
    "a home folder": ("~/x", "is a path"),
    "a path for a version": ("einops===../../x", "is a path"),
    "no version for a version": ("einops===x", "is not a version"),
    "a shell's dollar": ("einops; $(id)", "is not a requirement"),
    "a shell's backticks": ("`id`", "is not a requirement"),
    "a shell's semicolon": (";id", "is not a requirement"),
    "a marker of brackets": ("einops; " + "(" * 20_000, "the limit is 512"),
    "a marker of few brackets": ("einops; " + "(" * 500, "is not a requirement"),
    "a name of a megabyte": ("e" * 1_000_000, "is 1,000,000 characters long; the limit is 512"),
    "a hundred thousand specifiers": ("einops" + ",".join([">0"] * 100_000), "the limit is 512"),
    "a Cyrillic letter": ("ein\u043eps", "U+043E CYRILLIC SMALL LETTER O"),
    "an invisible space": ("ein\u200bops", "U+200B ZERO WIDTH SPACE"),
    "written from the right": ("\u202espnoie", "U+202E RIGHT-TO-LEFT OVERRIDE"),
}
"""One extra that is refused, and what the message says of it."""

_TWICE = b'{"cells": [], "metadata": {"torch_env": {}, "torch_env": {"extras": ["einops"]}}}'

REFUSED: dict[str, tuple[Content, str, tuple[str, ...]]] = {
    **{name: (extras(item), "torch_env.extras[0] ", (words,)) for name, (item, words) in BAD_EXTRAS.items()},
    "a list for a block": (notebook(["einops"]), "torch_env ", ("is a list", '"torch_env": {')),
    "a string for a block": (notebook("cuda"), "torch_env ", ("is a string",)),
    "a number for a block": (notebook(41), "torch_env ", ("is a number",)),
    "not a number": (written('{"x": NaN}'), "torch_env ", ("not JSON",)),
    "a key twice": (written('{"extras": ["a"], "extras": ["b"]}'), "the key torch_env: extras ", ("twice",)),
    "the block twice": (_TWICE, "the key torch_env ", ("twice",)),
    "half a character": (written('{"extras": ["\\ud801"]}'), "torch_env.extras[0] ", ("half a character",)),
    "half a character unread": (written('{"note": "\\udc00"}'), "torch_env.note ", ("half a character",)),
    "a string of extras": (notebook({"extras": "einops"}), "torch_env.extras ", ("is a string, not a list",)),
    "an object of extras": (notebook({"extras": {"einops": "*"}}), "torch_env.extras ", ("is an object",)),
    "the second of two": (extras("einops", None), "torch_env.extras[1] ", ("is null",)),
    "too many": (extras(*["einops"] * 300), "torch_env.extras ", ("300", "the limit is 256")),
    "another name for it": (
        _accelerator("gpu"),
        "torch_env.accelerator ",
        ("'gpu'", "did you mean 'cuda'?"),
    ),
    "no such tag": (_accelerator("cu77"), "torch_env.accelerator ", ("'cu77'", "cu126", "cu128")),
    "a number of an accelerator": (_accelerator(12), "torch_env.accelerator ", ("12", "cu128")),
    "a path of an accelerator": (_accelerator("../../etc"), "torch_env.accelerator ", ("'../../etc'",)),
    "no GPU for cuda": (_accelerator("cuda"), "no registered base fits", ("cu126", "no usable NVIDIA GPU")),
    "no GPU for a tag": (_accelerator("cu126"), "no registered base fits", ("cu126", "no usable NVIDIA GPU")),
    "no base for rocm": (_accelerator("rocm"), "no registered base fits", ("rocm", '"accelerator": "auto"')),
    "a Python of the past": (notebook({"requires-python": "<3"}), "torch_env.requires-python ", ("'<3'",)),
    "no Python": (notebook({"requires-python": ">=new"}), "torch_env.requires-python ", ("'>=new'",)),
    "a secret elsewhere": (notebook({"torch": "${HF_TOKEN}"}), "torch_env.torch ", ("environment variable",)),
    "a secret unread": (notebook({"note": ["${HOME}"]}), "torch_env.note", ("environment variable",)),
    "another torch": (extras("torch==1.0"), "no registered base fits", ("has torch 2.6.0+cpu", "==1.0")),
    "an older torch": (extras("einops", "torch<2"), "no registered base fits", ("has torch 2.6.0+cpu", "<2")),
    "not a valid time": (
        notebook({"exclude-newer": "last week"}),
        "torch_env.exclude-newer ",
        ("'last week'",),
    ),
    "two PEP 723 blocks": (
        scripts(*(f'# /// script\n# dependencies = ["{name}"]\n# ///\n' for name in ("attrs", "rich"))),
        "# /// script ",
        ("more than once", "keep one"),
    ),
    "one block of two broken": (
        scripts("# /// script\n# dependencies = []\n# ///\n", "# /// script\n# dependencies = [\n# ///\n"),
        "# /// script ",
        ("is not valid TOML",),
    ),
    "TOML that is none": (
        scripts("# /// script\n# dependencies = [\n# ///\n"),
        "# /// script ",
        ("is not valid TOML", "# dependencies = ["),
    ),
    "a PEP 723 block without an end": (
        scripts("# /// script\n# dependencies = []\nx = 1\n"),
        "# /// script ",
        ("no closing line",),
    ),
    "a URL in PEP 723": (
        scripts('# /// script\n# dependencies = ["x @ http://192.0.2.1/x.whl"]\n# ///\n'),
        "# /// script dependencies[0] ",
        ("is a URL",),
    ),
}
"""No overlay is made. What the message starts with (where it is), and what it says."""

HELD: dict[str, tuple[Content, tuple[str, ...]]] = {
    "two that exclude each other": (
        extras("einops>=2", "einops<2"),
        ("einops>=2", "einops<2", "unsatisfiable"),
    ),
    "an old ipykernel": (extras("ipykernel<5"), ("ipykernel<5", "ipykernel==6.30")),
    "an old pip": (extras("pip<1"), ("pip<1",)),
    "another torch beneath": (extras("wants-old-torch"), ("wants-old-torch", "torch")),
}
"""Well-formed, and refused by the resolver or by the audit of what it found."""

ACCEPTED: dict[str, tuple[Content, tuple[str, ...]]] = {
    "torch, as it is": (extras("torch>=2"), ()),
    "torch, written large": (extras("Torch"), ()),
    "torch with an extra of its own": (extras("torch[opt-einsum]"), ()),
    "what the base holds": (extras("pip"), ()),
    "a library of NVIDIA's by its name": (extras("nvidia-cublas-cu12"), ("nvidia-cublas-cu12",)),
    "triton by its name": (extras("triton"), ("triton",)),
    "a byte order mark": (b"\xef\xbb\xbf" + extras("einops"), ("einops",)),
    "an unknown key beside extras": (notebook({"note": "mine", "extras": ["einops"]}), ("einops",)),
    "256 extras": (extras(*["einops"] * 256), ("einops",)),
}
"""Built; and the names of what is added to the base."""


def put(content: Content, path: Path) -> Path:
    """Make ``path`` what ``content`` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


def _sparse(path: Path, size: int) -> None:
    """A file of this size that takes no room."""
    path.touch()
    os.truncate(path, size)
