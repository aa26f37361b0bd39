"""Compose Python services out of tasks."""

__version__ = "1.0.0.dev0"
