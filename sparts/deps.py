"""Which optional libraries are installed, found out without importing them."""

import importlib.util

__all__ = ["HAS_DAEMONIZE", "HAS_PSUTIL", "HAS_THRIFT"]


def _installed(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # it is imported, by unusual means that left it no spec
        return True
    # A directory of that name on the path, say one of .thrift files, has a spec but no origin.
    return spec is not None and spec.origin is not None


#: psutil: numbers of the process and the machine.
HAS_PSUTIL: bool = _installed("psutil")
#: Apache Thrift's library.
HAS_THRIFT: bool = _installed("thrift")
#: python-daemon, for ``--daemon``.
HAS_DAEMONIZE: bool = _installed("daemon")
