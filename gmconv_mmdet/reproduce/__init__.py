"""From COCO 2017 to the paper's detection tables: the rows, their runs and the report.

``tools/reproduce.py`` is the command line. Modules, in the order in which a table is made:
``paper`` (the published figures), ``rows`` (which config is which row), ``coco_folder`` and
``run_config`` (what a run trains on and how), ``preflight`` (what could go wrong, before it does),
``driver`` (the runs, with ``run_folder``, ``supervise`` and ``progress``), ``report``.
"""
