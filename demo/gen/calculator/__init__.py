__all__ = ['ttypes', 'constants', 'Calculator', 'Journal']
