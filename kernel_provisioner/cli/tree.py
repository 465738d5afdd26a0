"""``jupyter overlay tree`` and ``why``: what a notebook's environment holds, and what it is there for."""

from __future__ import annotations

from ..runs.kernels import prospect
from ..runs.tree import Tree, tree_data, tree_lines, why_data, why_lines
from .common import KernelApp


class TreeApp(KernelApp):
    """Show the packages of a notebook as a tree: what it declares, and what each of these needs.

    Packages that the base has are marked, and end their branch. Nothing is installed.
    """

    usage = "jupyter overlay tree NOTEBOOK [--kernel NAME] [--json]"
    description = __doc__
    examples = "jupyter overlay tree notes.ipynb"

    def run(self) -> int | None:
        (name,) = self.words(1, 1)
        ahead = prospect(name, self.kernel, self.settings())
        tree = Tree(ahead)
        self.emit(tree_data(ahead, tree), tree_lines(ahead, tree))
        return None


class WhyApp(KernelApp):
    """Show why a package is in a notebook's environment: the ways from what is declared that lead to it."""

    usage = "jupyter overlay why NOTEBOOK PACKAGE [--kernel NAME] [--json]"
    description = __doc__
    examples = "jupyter overlay why notes.ipynb filelock"

    def run(self) -> int | None:
        notebook, name = self.words(2, 2)
        ahead = prospect(notebook, self.kernel, self.settings())
        tree = Tree(ahead)
        lines = why_lines(ahead, tree, name)
        self.emit(why_data(ahead, tree, name), lines)
        return None
