"""Pictures and tables of masks and of effective receptive fields."""
