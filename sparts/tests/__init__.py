"""The old name of the testing kit, which is sparts.testing."""
