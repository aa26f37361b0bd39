__all__ = ["Calculator", "Journal", "constants", "ttypes"]
