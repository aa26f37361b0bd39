"""The verbs of the command ``sparts``, one module each."""
