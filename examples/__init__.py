"""Whole applications, to run and to begin from."""
