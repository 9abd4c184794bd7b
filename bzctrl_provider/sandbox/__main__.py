"""Run the command ``bzctrl-sandbox`` as ``python -m bzctrl_provider.sandbox``."""

from __future__ import annotations

import sys

from bzctrl_provider.sandbox.cli import main

if __name__ == "__main__":
    sys.exit(main())
