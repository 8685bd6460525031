"""What comes out of a comparison: its tables (``comparison``, with ``paired_stats``), its HTML ``page``."""
