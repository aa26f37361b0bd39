"""The old place of what installs a service under runit; see :mod:`sparts.ops.runit`."""

from sparts.ops.runit import get_runsvdir_dirs, install, make_runit_dir

__all__ = ["get_runsvdir_dirs", "install", "make_runit_dir"]
