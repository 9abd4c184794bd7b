"""Measurements of the provider's cost beside that of code without it: ``make bench``.

Each contestant has its turn in each round, A B A B …, so that a machine that is busy for a moment slows both. ``figures`` has
the figures with their goals. Each of ``create``, ``cold``, ``imports``, ``parse``, ``policy`` and ``bulk`` is a process of its own
that prints the values of its figures.
"""
