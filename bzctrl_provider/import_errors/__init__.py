"""Incidents for DAG files that cannot be imported, written by a listener in the DAG processor."""
