from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

import bzctrl_provider


def test_version_is_that_of_the_installed_metadata():
    """The User-Agent and Airflow show the version that pip shows."""
    assert bzctrl_provider.__version__ == version("airflow-provider-bzctrl")


def test_version_first_metadata_of_the_path_wins(monkeypatch, tmp_path):
    """As with imports, an earlier folder of the path hides a later one; a folder that is missing is none."""
    for folder, name in (
        ("one", "airflow_provider_bzctrl_extras-7.0.dist-info"),
        ("two", "airflow_provider_bzctrl-2.1.0rc1.dist-info"),
        ("three", "airflow_provider_bzctrl-2.0.0.dist-info"),
    ):
        (tmp_path / folder / name).mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / name) for name in ("missing", "one", "two", "three")])
    assert bzctrl_provider.__version__ == "2.1.0rc1"


def test_version_without_a_folder_of_metadata_is_looked_up(monkeypatch, tmp_path):
    """Other forms of an installation, such as an egg, have their metadata elsewhere."""
    metadata = tmp_path / "airflow_provider_bzctrl.egg-info"
    metadata.mkdir()
    (metadata / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: airflow-provider-bzctrl\nVersion: 3.0.0\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert bzctrl_provider.__version__ == "3.0.0"


def test_getattr_other_name_raises():
    """The package has no other attribute of its own."""
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        bzctrl_provider.version  # noqa: B018 - the access itself raises
