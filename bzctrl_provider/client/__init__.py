"""BzCtrl itself: its todos, its endpoints, its answers. Nothing here imports Airflow."""
