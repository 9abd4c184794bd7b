"""Apache Airflow provider for BzCtrl: a failed check becomes an incident by itself.

PYTEST_DONT_REWRITE: Airflow may import this package before pytest does, and pytest warns of a module that it can no
longer rewrite.
"""


def __getattr__(name: str) -> str:
    """Read the version from the installed metadata, and only when somebody asks: DAG files never do."""
    if name == "__version__":
        return _find_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _find_version() -> str:
    """Return the version from the name of the metadata's folder, as the specification of installed projects has it."""
    import os
    import sys

    # `importlib.metadata` parses the names of all distributions and then this one's README: 4 ms of each task.
    for place in sys.path:
        try:
            names = os.listdir(place or os.curdir)  # noqa: PTH208 - pathlib makes an object of each name
        except OSError:
            continue
        for name in names:
            if name.startswith("airflow_provider_bzctrl-") and name.endswith(".dist-info"):
                return name.removesuffix(".dist-info").partition("-")[2]
    from importlib.metadata import version

    return version("airflow-provider-bzctrl")
