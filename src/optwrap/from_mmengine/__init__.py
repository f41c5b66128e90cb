"""Configs of MMEngine as configs of this library."""
