"""The defaults of a server's options."""

import argparse

from sparts.http.options import HTTPOptions
from sparts.http.server import Limits


def test_the_limits_are_the_options() -> None:
    """Every limit is an option with the same default, and setting the option sets the limit."""

    class Holder(HTTPOptions):
        def __init__(self) -> None:
            self.options = argparse.Namespace()

    holder = Holder()
    assert Limits() == holder.limits()
    holder.body_timeout = 3.0
    holder.max_connections = 7
    assert Limits(body_timeout=3.0, max_connections=7) == holder.limits()
