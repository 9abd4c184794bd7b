from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

ARTIFACTS = Path(__file__).parent / "artifacts"


@pytest.fixture
def artifact():
    """Return what reads an artifact that a tool wrote, as a mapping of its own."""

    def read(name):
        content = (ARTIFACTS / name).read_bytes()
        return json.loads(gzip.decompress(content) if name.endswith(".gz") else content)

    return read


@pytest.fixture
def known_secret():
    """Return a password that Airflow masks."""
    from airflow.providers.common.compat.sdk import mask_secret

    secret = "Qx7-Zebra-Lagune-93"
    mask_secret(secret)
    return secret
