"""Reproductions of the papers' experiments. Nothing else in this package imports them."""
