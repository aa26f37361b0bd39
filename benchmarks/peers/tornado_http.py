"""Bare Tornado: PORT, then of the words uvloop, graceful (ends its loop on SIGTERM), log, slow."""

import asyncio
import logging
import signal
import sys
from typing import Any

import tornado.web


class Hello(tornado.web.RequestHandler):
    """Answers ``Hello, world``."""

    def get(self) -> None:
        self.write("Hello, world")


class Slow(tornado.web.RequestHandler):
    """Answers after 50 ms."""

    async def get(self) -> None:
        await asyncio.sleep(0.05)
        self.write("Hello, world")


async def main(port: int, words: list[str]) -> None:
    routes: list[Any] = [("/", Hello)]
    if "slow" in words:
        routes.append(("/slow", Slow))
    tornado.web.Application(routes).listen(port, "127.0.0.1")
    end = asyncio.Event()
    if "graceful" in words:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()


if __name__ == "__main__":
    if "log" in sys.argv:
        logging.basicConfig(level=logging.DEBUG)
    if "uvloop" in sys.argv:
        import uvloop

        uvloop.run(main(int(sys.argv[1]), sys.argv[2:]))
    else:
        asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
