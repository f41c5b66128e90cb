"""Structured configs for Hydra and their registration; nothing here imports torch."""
