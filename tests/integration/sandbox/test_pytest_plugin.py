"""The pytest plugin in a project of somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder for ``PYTHONPATH`` that looks to pytest like the installed wheel; an editable install does not."""
    info = tmp_path / "site" / "airflow_provider_bzctrl-0.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: airflow-provider-bzctrl\nVersion: 0.0.0\n")
    (info / "RECORD").write_text(
        "bzctrl_provider/__init__.py,,\nbzctrl_provider/sandbox/pytest_plugin.py,,\n"
    )
    (info / "entry_points.txt").write_text(
        "[pytest11]\nbzctrl_sandbox = bzctrl_provider.sandbox.pytest_plugin\n"
    )
    (info.parent / "bzctrl_provider").symlink_to(ROOT / "bzctrl_provider")
    return info.parent


def test_plugin_with_the_provider_imported_first_raises_no_warning(installed: Path, tmp_path: Path) -> None:
    """With every warning as an error, the fixture works although the provider was imported before pytest."""
    (tmp_path / "test_theirs.py").write_text(
        "def test_one(bzctrl_sandbox):\n    assert bzctrl_sandbox.todos == []\n"
    )
    # Airflow loads the provider's policy, and so the package, whenever it is imported. Not Airflow itself here: it
    # also imports anyio, whose plugin for pytest raises such a warning of its own.
    code = (
        "import bzctrl_provider, pytest, sys\n"
        f"sys.exit(pytest.main(['-q', '-W', 'error', '-c', {os.devnull!r}, '-p', 'no:cacheprovider', 'test_theirs.py']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
