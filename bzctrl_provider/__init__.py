"""Apache Airflow provider for BzCtrl: a failed check becomes an incident by itself.

PYTEST_DONT_REWRITE: Airflow may import this package before pytest does, and pytest warns of a module that it can no
longer rewrite.
"""


def __getattr__(name: str) -> str:
    """Read the version from the installed metadata, and only when somebody asks: DAG files never do."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("airflow-provider-bzctrl")
