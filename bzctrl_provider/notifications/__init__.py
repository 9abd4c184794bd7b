"""What Airflow calls when something failed."""
