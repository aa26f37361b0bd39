"""Benchmarks: ours and the peers, interleaved in one go; ``python -m benchmarks --list``."""
