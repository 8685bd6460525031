"""Receptive-field analysis: which layers can't contribute at an input size (arXiv 2211.14487)."""
