"""The command ``bzctrl``, which Airflow 3.2 and newer also have as ``airflow bzctrl``.

Importing this package, and ``bzctrl --help``, load no Airflow.
"""
