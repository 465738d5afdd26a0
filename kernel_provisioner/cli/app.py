"""``jupyter overlay``: the way in."""

from __future__ import annotations

from .common import CommandGroup

_HERE = __package__


class OverlayCommand(CommandGroup):
    """Notebooks on one shared torch, each with a light overlay of its own for what else it needs.

    A base is an environment with torch in it, made once and shared. A notebook declares its extras,
    and gets them in an overlay that takes moments to make. In JupyterLab all of this happens when a
    kernel named "torch (shared)" starts; these commands do the rest.
    """

    name = "jupyter-overlay"
    usage = "jupyter overlay COMMAND [--help]"
    description = __doc__
    examples = """
    jupyter overlay demo                          see the whole of it work
    jupyter overlay base create cpu               make a base for the CPU; cu126, rocm6.3 … for GPUs
    jupyter overlay add notes.ipynb einops        let a notebook have a package
    jupyter overlay run notes.ipynb --output out.ipynb
    """
    # As names, so that a command loads only what it needs itself.
    subcommands = {
        "base": (f"{_HERE}.base.BaseApp", "Make, adopt, look at and remove the shared torch environments."),
        "run": (f"{_HERE}.run.RunApp", "Run a notebook from start to end, without a browser."),
        "prebuild": (f"{_HERE}.prebuild.PrebuildApp", "Build the overlays of many notebooks ahead of time."),
        "add": (f"{_HERE}.notebook.AddApp", "Declare packages that a notebook needs."),
        "remove": (f"{_HERE}.notebook.RemoveApp", "Take back packages that a notebook declares."),
        "show": (
            f"{_HERE}.notebook.ShowApp",
            "Say what a notebook runs on, and why, and what it takes on disk.",
        ),
        "lock": (f"{_HERE}.lock.LockApp", "Write exact versions and hashes into a notebook."),
        "list": (f"{_HERE}.overlays.ListApp", "List all overlays."),
        "du": (f"{_HERE}.du.DiskUseApp", "Say what all environments share and own on disk."),
        "venv": (f"{_HERE}.venv.VenvApp", "Make an environment for a project that shares a base's torch."),
        "prune": (f"{_HERE}.overlays.PruneApp", "Remove overlays that nobody will miss."),
        "doctor": (f"{_HERE}.doctor.DoctorApp", "Look for what is wrong on this machine, and say the fix."),
        "demo": (f"{_HERE}.demo.DemoApp", "Show all of this on a real notebook."),
    }


def main(argv: list[str] | None = None) -> None:
    """The executable ``jupyter-overlay``."""
    try:
        OverlayCommand.launch_instance(argv)
    except KeyboardInterrupt:  # before a subcommand began: nothing was done
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
