"""Clicks on what a site recommends."""
