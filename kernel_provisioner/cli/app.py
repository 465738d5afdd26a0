"""``jupyter overlay``: the way in."""

from __future__ import annotations

from .common import CommandGroup

_HERE = __package__


class OverlayCommand(CommandGroup):
    """Run notebooks on one shared torch, each in a small environment of its own.

    A base is an environment with torch in it, created once and shared. A notebook declares the packages
    that it needs besides, and gets them in an overlay: a virtual environment on top of the base. In
    JupyterLab this happens when a kernel named "torch (shared)" starts. These commands manage both.
    """

    name = "jupyter-overlay"
    usage = "jupyter overlay COMMAND [--help]"
    description = __doc__
    examples = """
    jupyter overlay demo                          see it work on a small notebook
    jupyter overlay base create cpu               create a base for the CPU (or cu126, rocm6.3, …)
    jupyter overlay add notes.ipynb einops        declare a package
    jupyter overlay run notes.ipynb --output out.ipynb
    """
    # As names, so that a command loads only what it needs itself.
    subcommands = {
        "base": (f"{_HERE}.base.BaseApp", "Create, adopt, list and remove the shared torch environments."),
        "run": (f"{_HERE}.run.RunApp", "Run all cells of a notebook, without a browser."),
        "exec": (f"{_HERE}.exec.ExecApp", "Run a command in a notebook's environment."),
        "prebuild": (f"{_HERE}.prebuild.PrebuildApp", "Build the overlays of many notebooks ahead of time."),
        "init": (f"{_HERE}.declare.InitApp", "Create a notebook with its kernel and packages."),
        "add": (f"{_HERE}.declare.AddApp", "Add packages to a notebook."),
        "remove": (f"{_HERE}.declare.RemoveApp", "Remove packages from a notebook."),
        "show": (
            f"{_HERE}.notebook.ShowApp",
            "Show what a notebook runs on, and why.",
        ),
        "upgrade": (f"{_HERE}.upgrade.UpgradeApp", "Take newer versions of a notebook's packages."),
        "tree": (f"{_HERE}.tree.TreeApp", "Show a notebook's packages, and what each of them needs."),
        "why": (f"{_HERE}.tree.WhyApp", "Show why a package is there."),
        "lock": (f"{_HERE}.lock.LockApp", "Write exact versions and hashes into a notebook."),
        "freeze": (f"{_HERE}.notebook.FreezeApp", "List what a notebook's overlay adds to its base."),
        "log": (f"{_HERE}.notebook.LogApp", "Show how a notebook's overlay was built."),
        "export": (f"{_HERE}.export.ExportApp", "Write a notebook's environment for other tools."),
        "list": (f"{_HERE}.overlays.ListApp", "List all overlays."),
        "du": (f"{_HERE}.du.DiskUseApp", "Show what all environments share and own on disk."),
        "venv": (f"{_HERE}.venv.VenvApp", "Create a virtual environment on a base, for a project."),
        "sync": (f"{_HERE}.sync.SyncApp", "Restore what a foreign command changed in such an environment."),
        "prune": (f"{_HERE}.overlays.PruneApp", "Remove unused overlays."),
        "doctor": (f"{_HERE}.doctor.DoctorApp", "Check this machine, and print a fix for each problem."),
        "completion": (f"{_HERE}.completion.CompletionApp", "Print what lets a shell complete commands."),
        "demo": (f"{_HERE}.demo.DemoApp", "Run a small notebook on a shared torch."),
    }


def main(argv: list[str] | None = None) -> None:
    """The executable ``jupyter-overlay``."""
    try:
        OverlayCommand.launch_instance(argv)
    except KeyboardInterrupt:  # before a subcommand began: nothing was done
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
