"""A Dockerfile, done without a container engine: in a copy of this machine that is gone afterwards.

The copy is an overlay file system over each disk, whose changes lie in memory, in a mount namespace of its
own: what a step writes is a layer. That needs root. ``FROM`` is the Python that a test names.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from kernel_provisioner.uv.discovery import uv_path

from .waiting import patient

_WITHIN = patient(120.0)
_START = """\
mount --make-rprivate /
mount -t tmpfs none {here}
mkdir {here}/copy
disk() {{
  mkdir -p {here}/upper/$1 {here}/aside/$1
  mount -t overlay overlay -o lowerdir=$2,upperdir={here}/upper/$1,workdir={here}/aside/$1 {here}/copy$2
}}
mkdir -p {here}/upper/0/home/root
disk 0 /
home=~root
chmod 755 {here}/copy$home  # where the Python of FROM may lie
for place in /proc /dev /sys; do mount --rbind $place {here}/copy$place; done
number=0
for place in {disks}; do number=$((number + 1)); disk $number $place; done
layer() {{ du -s --apparent-size --block-size=1 {here}/upper | cut -f1 > {said}/$1.bytes; }}
"""


@dataclasses.dataclass(frozen=True)
class Image:
    """What became of it: what its command printed, and what each step has added, in bytes."""

    printed: str
    layers: tuple[tuple[str, int], ...]

    def layer(self, word: str) -> int:
        """The bytes of the one step that has ``word`` in it."""
        (size,) = (size for step, size in self.layers if word in step)
        return size


def steps_of(dockerfile: str) -> Iterator[tuple[str, str, str]]:
    """Each instruction: its word, its arguments, and the text of its heredoc, empty where it has none."""
    lines = iter(re.sub(r"\\\n\s*", " ", dockerfile).splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        content = ""
        if match := re.match(r'<<"(\w+)"\s', rest):
            rest = rest[match.end() :]
            while (text := next(lines)) != match[1]:
                content += f"{text}\n"
        yield word, rest.strip(), content


def build(
    dockerfile: str,
    context: Path,
    home: Path,
    *,
    python: Path,
    env: Mapping[str, str],
    command: Sequence[str] = (),
) -> Image:
    """Do what a Dockerfile says, with a context, and start what is built, or ``command`` in it.

    ``python`` stands for the one of ``FROM``, ``env`` is that of the build. Raises AssertionError with what
    a step that fails printed.
    """
    here, said = home / "image", home / "said"
    for place in (here, said):
        place.mkdir()
    script = [
        _START.format(here=shlex.quote(str(here)), said=shlex.quote(str(said)), disks=shlex.join(_disks()))
    ]
    settings = {**env, "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    user, folder, names = "root", "/", list[str]()
    for number, (word, rest, content) in enumerate(steps_of(dockerfile)):
        names.append(f"{word} {rest}")
        root = f"{here}/copy"
        if word == "ENV":
            settings |= dict(part.split("=", 1) for part in shlex.split(rest))
        elif word == "USER":
            user = rest
        elif word == "WORKDIR":
            folder = rest
            script.append(f"mkdir -p {shlex.quote(root + folder)}")
        elif word == "COPY":
            script += _copied(rest, content, context, f"{root}{folder}", root, said / f"{number}.files")
        elif word in ("RUN", "CMD"):
            started = ["/bin/sh", "-ec", rest] if word == "RUN" else command or json.loads(rest)
            # Not /root: that is this machine's.
            variables = [f"{key}={value}" for key, value in {**settings, "HOME": f"/home/{user}"}.items()]
            words = [
                "env",
                "-i",
                *variables,
                "sh",
                "-c",
                f'cd {shlex.quote(folder)}; exec "$@"',
                "sh",
                *started,
            ]
            script.append(f"chroot --userspec={user} {shlex.quote(root)} {shlex.join(words)}"
                          f" > {shlex.quote(str(said / f'{number}.out'))} 2>&1")  # fmt: skip
        else:
            assert word == "FROM", word
        script.append(f"layer {number}")
    shell = ["unshare", "--mount", "sh", "-euc", "\n".join(script)]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=_WITHIN, check=False)
    printed = {path.stem: path.read_text() for path in said.glob("*.out")}
    last = max(map(int, printed), default=0)
    assert done.returncode == 0, f"{names[last]}\n{printed.get(str(last))}\n{done.stderr}"
    sizes = [int((said / f"{number}.bytes").read_text()) for number in range(len(names))]
    layers = [(name, size - before) for name, size, before in zip(names, sizes, [0, *sizes], strict=False)]
    return Image(printed[str(last)], tuple(layers))


def _copied(rest: str, content: str, context: Path, folder: str, root: str, kept: Path) -> list[str]:
    """The lines that do a COPY; what is copied is gathered in ``kept`` first."""
    options = dict(re.findall(r"--(\w+)=(\S+)", rest))
    rest = re.sub(r"--\w+=\S+\s+", "", rest)
    source, target = (
        json.loads(rest) if rest.startswith("[") else (rest if not content else f"- {rest}").split()
    )
    place = os.path.normpath(f"{root}{target}" if target.startswith("/") else f"{folder}/{target}")
    if content:
        kept.write_text(content)
        return [f"cp {shlex.quote(str(kept))} {shlex.quote(place)}"]
    if "from" in options:  # of uv's image: this machine's own
        found = uv_path()
        return [f"cp {shlex.quote(found)} {shlex.quote(place)}"]
    ignored = (context / ".dockerignore").read_text().split() if (context / ".dockerignore").exists() else []
    kept.mkdir()
    if (context / source).is_dir():
        shutil.copytree(context / source, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*ignored))
    else:
        shutil.copy2(context / source, kept)
    lines = [f"cp -R {shlex.quote(str(kept))}/. {shlex.quote(place)}"]
    if owner := options.get("chown"):
        lines.append(f"chroot {shlex.quote(root)} chown -R {owner} {shlex.quote(place.removeprefix(root))}")
    return lines


def _disks() -> list[str]:
    """Where further file systems are mounted: a layer over the root directory has none of them."""
    places = [disk.mountpoint for disk in psutil.disk_partitions(all=True)]
    own = re.compile("/$|/(proc|dev|sys)(/|$)")
    return [place for place in places if not own.match(place) and Path(place).is_dir()]
