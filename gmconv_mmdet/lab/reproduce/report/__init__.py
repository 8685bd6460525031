"""What comes out: of a comparison (``comparison``, its HTML ``page``) and of the paper's tables
(``paper_table``), with the statistics of both (``paired_stats``)."""
