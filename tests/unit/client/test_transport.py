from __future__ import annotations

import pytest
import requests

from bzctrl_provider.client.retry import BzCtrlRetry
from bzctrl_provider.client.transport import BzCtrlAdapter


def pool_of(adapter, url, verify=True, proxies=None):
    request = requests.Request("POST", url).prepare()
    return adapter.get_connection_with_tls_context(request, verify, proxies)


@pytest.mark.parametrize(
    ("url", "verify", "proxies"),
    [
        ("https://other.example.com/a", True, None),
        ("https://bzctrl.example.com:8443/a", True, None),
        ("https://bzctrl.example.com/a", False, None),
        ("https://bzctrl.example.com/a", True, {"https": "http://proxy.example.com:3128"}),
    ],
)
def test_connections_of_other_settings_are_kept_apart(url, verify, proxies):
    """Another host, another trust and another proxy have a pool of their own; the same settings have the same one."""
    adapter = BzCtrlAdapter(retry=BzCtrlRetry.for_request("create", attempts=1), connections=1)
    first = pool_of(adapter, "https://bzctrl.example.com/a")
    assert pool_of(adapter, url, verify, proxies) is not first
    assert pool_of(adapter, "https://bzctrl.example.com/a") is first
    adapter.close()
