"""The empty service: it starts, waits, and ends gracefully at ^C.

python demo/empty.py -h
"""

from sparts.vservice import VService


class MyService(VService):
    pass


MyService.initFromCLI()
