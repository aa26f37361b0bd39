"""One module, one family of tasks; each imports its own library only when it is imported itself."""
