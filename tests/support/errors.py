"""The error of a client's call."""

from __future__ import annotations

import pytest

from bzctrl_provider.exceptions import BzCtrlError


def get_error(client, fields, *, limit_s=None):
    with pytest.raises(BzCtrlError) as caught:
        client.create_todo(fields, limit_s=limit_s)
    return caught.value
