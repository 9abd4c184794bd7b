"""Airflow's way to a system: the hook."""
