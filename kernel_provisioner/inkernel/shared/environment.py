"""What package managers, and the builder that drives them, may see of an environment.

An allowlist: tokens have names that nobody can list. It lies on the kernel's side, because a
kernel starts the builder, too, once its user has run a cell.
"""

from __future__ import annotations

from collections.abc import Mapping

_LIBRARIES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # where the system's loader looks: Linux, macOS
# How to find programs, files, certificates and proxies, and in which language to speak.
# Everything else (tokens of JupyterHub and clouds above all) stays behind.
_INHERITED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "TERM",
    "COLUMNS", "NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy",
    "no_proxy", "CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "MAKEFLAGS", *_LIBRARIES, "SDKROOT",
    "CUDA_HOME", "CUDA_PATH", "ROCM_HOME", "ROCM_PATH",
})  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "XDG_", "UV_", "PIP_", "TORCH_OVERLAY_PAUSE")
# Settings that bind a package manager to an environment other than the one we name.
_NOT_INHERITED = frozenset({
    "UV_PYTHON", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES",
    "UV_WORKING_DIR", "UV_WORKING_DIRECTORY", "UV_ENV_FILE", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT",
    "UV_OVERRIDE", "UV_EXCLUDE", "UV_TORCH_BACKEND", "UV_TARGET", "UV_PREFIX", "UV_REQUIRE_HASHES",
    "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT", "PIP_PYTHON", "PIP_CONSTRAINT",
    "PIP_BUILD_CONSTRAINT", "PIP_REQUIREMENT", "PIP_EDITABLE", "PIP_REQUIRE_VIRTUALENV",
    "PIP_BREAK_SYSTEM_PACKAGES",
})  # fmt: skip


# A builder that a kernel starts reads the configuration files: https://docs.jupyter.org/en/latest/use/jupyter-directories.html
_SETTINGS = (
    "TORCH_OVERLAY_INDEX", "JUPYTER_CONFIG_DIR", "JUPYTER_CONFIG_PATH", "JUPYTER_NO_CONFIG",
    "JUPYTER_PLATFORM_DIRS", "JUPYTER_PREFER_ENV_PATH",
)  # fmt: skip
_PLACES = (
    "JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "TORCH_OVERLAY_ROOT",
    "TORCH_OVERLAY_ACCELERATOR",
)  # fmt: skip
INDEX_VARIABLE = "TORCH_OVERLAY_INDEX"
"""Where PyTorch's packages are; its address may hold a password, which is why no file hands it on."""


def builder_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that a builder may see: what package managers may, and where settings are."""
    return {
        **inherited_environment(environ),
        **{name: environ[name] for name in _SETTINGS if name in environ},
    }


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that ``jupyter overlay`` needs: a builder's, and the places of bases."""
    return {
        **builder_environment(environ),
        **{name: environ[name] for name in _PLACES if name in environ},
    }


def loader_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` without which some Pythons, those of clusters say, find no libraries."""
    return {name: environ[name] for name in _LIBRARIES if name in environ}


def inherited_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that package managers may see: no tokens, no foreign environment."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _INHERITED or name.startswith(_INHERITED_PREFIXES))
        and not (name in _NOT_INHERITED or name.startswith("UV_PUBLISH_"))  # tokens to upload with
    }
