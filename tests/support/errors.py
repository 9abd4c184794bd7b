"""The error that a client ends with."""

from __future__ import annotations

import pytest

from bzctrl_provider.exceptions import BzCtrlError


def get_error(client, fields):
    with pytest.raises(BzCtrlError) as caught:
        client.create_todo(fields)
    return caught.value
