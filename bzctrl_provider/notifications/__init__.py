"""The notifier for the callbacks of tasks, DAGs and deadlines."""
