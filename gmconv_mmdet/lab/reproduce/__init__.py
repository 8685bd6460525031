"""Trainings that are compared: any config and its variants, or the paper's detection tables.

``tools/reproduce.py`` is the command line. What is run: ``variants`` and ``plain_twin`` (any
config), ``rows``, ``paper``, ``coco_folder`` and ``run_config`` (the tables), ``recipe`` (both, for
the driver). How: ``preflight`` (what could go wrong, before it does), ``driver`` (the runs, with
``run_folder``, ``supervise`` and ``progress``), ``history`` (what is kept of a run). What comes
out: ``comparison``, ``comparison_page`` and ``paired_stats``; ``report`` for the tables.
"""
