"""Measurements of the provider's cost beside that of code without it: ``make bench``.

Every figure is a ratio of two contestants that run in turn, A B A B …, so that a machine that is busy for a moment slows
both. The modules of this package measure, one for each group of figures; ``children`` holds what runs in processes of its
own; ``goals`` says what is aimed at, ``report`` and ``picture`` write it down.
"""
