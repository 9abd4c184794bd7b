"""From what happened in Airflow to an incident, or to the reason why there is none."""
