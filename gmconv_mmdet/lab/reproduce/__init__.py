"""Trainings that are compared: any config and its variants, or the paper's detection tables.

``tools/reproduce.py`` is the command line (``cli``). What is run: ``variants``, with the tables
of the ``paper``. How: ``preflight`` (what could go wrong, before it does), ``driver`` (the runs, with
``run_folder`` and ``processes``), ``history`` (what is kept of a run). What comes out: ``report``.
"""
