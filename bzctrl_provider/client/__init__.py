"""BzCtrl itself: its todos, endpoints and responses. Nothing here imports Airflow."""
