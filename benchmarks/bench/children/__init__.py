"""Measurements in separate processes; each module prints one JSON object as its last line."""
