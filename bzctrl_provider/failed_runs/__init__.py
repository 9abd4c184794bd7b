"""Incidents for failed runs: noted by a listener in the scheduler, and raised by the delivery."""
