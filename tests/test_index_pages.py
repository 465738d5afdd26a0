"""Pages of an index: the certificates of the system are trusted, as uv trusts them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.environ import default_index
from tests.support.runners import run_well

FETCH = "import sys; from kernel_provisioner.index.pages import fetch; print(len(fetch(sys.argv[1])[0]))"


@pytest.mark.network
def test_a_python_that_knows_no_certificates_uses_the_systems(tmp_path: Path) -> None:
    """As one that uv installed, whose own place for them is that of the machine which built it."""
    page = f"{default_index().rstrip('/')}/six/"
    nowhere = f"{tmp_path}/none"
    env = {**os.environ, "SSL_CERT_FILE": nowhere, "SSL_CERT_DIR": nowhere}
    done = run_well([sys.executable, "-c", FETCH, page], tmp_path, env)
    assert int(done.stdout) > 0
