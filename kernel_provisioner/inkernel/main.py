"""Start the kernel. Run by absolute path, so that no file beside the notebook can take its place."""

import gc
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_NAME = "_torch_overlay"


def main() -> None:
    """Run ipykernel's application with the kernel that has a gate, at once or in each fork."""
    # Importing makes no garbage, and looking for it takes a tenth of the start; init_code enables it again.
    gc.disable()
    # A script's own directory comes first on the path, never the working directory.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    spec = importlib.util.spec_from_file_location(
        _NAME, os.path.join(_HERE, "__init__.py"), submodule_search_locations=[_HERE]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    spec.loader.exec_module(package)
    if sys.argv[1:2] == ["--fork-server"]:
        importlib.import_module(f"{_NAME}.forkserver").serve(sys.argv[2:])  # comes back in a kernel
    importlib.import_module(f"{_NAME}.kernel").IPKernelApp.launch_instance()


if __name__ == "__main__":
    main()
