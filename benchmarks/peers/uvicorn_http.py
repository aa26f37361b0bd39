"""A bare ASGI application under uvicorn, without its access log: PORT."""

import asyncio
import sys
from typing import Any

import uvicorn

_HEADERS = [(b"content-type", b"text/html; charset=UTF-8"), (b"content-length", b"12")]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/slow":
        await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"Hello, world"})


if __name__ == "__main__":
    uvicorn.run(
        hello,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=False,
        log_level="warning",
        lifespan="off",
    )
