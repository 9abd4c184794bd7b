from __future__ import annotations

from importlib.metadata import version

import pytest

import bzctrl_provider


def test_version_is_that_of_the_installed_metadata():
    """The User-Agent and Airflow show the version that pip shows."""
    assert bzctrl_provider.__version__ == version("airflow-provider-bzctrl")


def test_getattr_other_name_raises():
    """The package has no other attribute of its own."""
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        bzctrl_provider.version  # noqa: B018 - the access itself raises
