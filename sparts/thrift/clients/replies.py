"""Replies put together from bytes as they come, for a client that cannot wait for them."""

import struct
from typing import Final

from sparts.thrift.clients.connections import too_large
from sparts.thrift.clients.endpoints import Endpoint
from sparts.thrift.errors import BadReply, BadStatus

__all__ = ["FramedReply", "HttpReply", "Reply"]

_SIZE = struct.Struct(">i")
#: How much of an error page is told.
_EXCERPT: Final = 200
#: The largest head of an HTTP response, and the longest line of a chunked one, in bytes.
_MAX_HEAD: Final = 65536


class Reply:
    """One reply that is coming in."""

    #: Whether the connection can take another call after it.
    keeps = True

    def __init__(self, endpoint: Endpoint, max_size: int) -> None:
        """*max_size* bytes is the largest that is taken."""
        self._endpoint = endpoint
        self._max_size = max_size

    def feed(self, data: bytes) -> bytes | None:
        """Take *data*; the whole reply, as ``Messages.decode`` wants it, or None if not yet whole.

        :raises BadReply: it is too large, or no reply.
        """
        raise NotImplementedError

    def end(self) -> bytes | None:
        """The connection has ended: the whole reply if that was its end, else None."""
        return None


class FramedReply(Reply):
    """A message that begins with its size."""

    def __init__(self, endpoint: Endpoint, max_size: int) -> None:
        super().__init__(endpoint, max_size)
        self._parts: list[bytes] = []
        self._have = 0
        self._whole = -1

    def feed(self, data: bytes) -> bytes | None:
        self._parts.append(data)
        self._have += len(data)
        if self._whole < 0:
            if self._have < 4:
                return None
            if len(self._parts) > 1:
                self._parts = [b"".join(self._parts)]
            (size,) = _SIZE.unpack_from(self._parts[0])
            if not 0 <= size <= self._max_size:
                raise too_large(size & 0xFFFFFFFF, self._max_size)
            self._whole = size + 4
        if self._have < self._whole:
            return None
        if self._have > self._whole:
            raise BadReply("more came back than one answer")
        return b"".join(self._parts) if len(self._parts) > 1 else self._parts[0]


class HttpReply(Reply):
    """The body of an HTTP response; source of the format: RFC 9112."""

    def __init__(self, endpoint: Endpoint, max_size: int, oneway: bool = False) -> None:
        """Of a *oneway* call nobody waits for the body: the server may first run it."""
        super().__init__(endpoint, max_size)
        self._oneway = oneway
        self._data = bytearray()
        self._body = bytearray()
        self._in_body = False
        #: The length of the body; None: chunked, or up to the end of the connection.
        self._length: int | None = None
        self._chunked = False
        self._status, self._reason = 0, ""

    def feed(self, data: bytes) -> bytes | None:
        self._data += data
        while not self._in_body:
            if not self._take_head():
                return None
        if self._length is not None:
            whole = len(self._data) >= self._length
            self._body, extra = self._data, len(self._data) > self._length
            if extra:
                raise BadReply("more came back than one answer")
        elif self._chunked:
            whole = self._take_chunks()
        else:
            whole, self._body = False, self._data
        self._check(len(self._body))
        if self._oneway and self._status == 200 and not whole:
            whole, self.keeps = True, False
        return self._done() if whole else None

    def end(self) -> bytes | None:
        self.keeps = False
        if self._in_body and self._length is None and not self._chunked:
            return self._done()
        return None

    def _check(self, size: int) -> None:
        if size > self._max_size:
            raise too_large(size, self._max_size)

    def _done(self) -> bytes:
        if self._status != 200:
            raise self._bad_status()
        return bytes(self._body)

    def _bad_status(self) -> BadStatus:
        page = bytes(self._body[:_EXCERPT]).decode("utf-8", "replace")
        said = f": {' '.join(page.split())}" if page else ""
        status = f"{self._status} {self._reason}"
        message = f"{self._endpoint} answered with the status {status}{said}"
        return BadStatus(message, self._status)

    def _no_http(self, what: str) -> BadReply:
        return BadReply(f"what {self._endpoint} sent is no HTTP: {what}")

    # -- the head ---------------------------------------------------------------------------------
    def _take_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or end > _MAX_HEAD:
            if len(self._data) > _MAX_HEAD or not b"HTTP/1.".startswith(self._data[:7]):
                raise self._no_http(repr(bytes(self._data[:60])))
            return False
        line, _, fields = bytes(self._data[: end + 4]).partition(b"\r\n")
        del self._data[: end + 4]
        version, _, rest = line.decode("latin-1").partition(" ")
        status, _, self._reason = rest.partition(" ")
        if version not in ("HTTP/1.0", "HTTP/1.1") or not (status.isdecimal() and len(status) == 3):
            raise self._no_http(repr(line[:60]))
        self._status = int(status)
        if self._status >= 200:  # before that only "go on"
            self._in_body = True
            self._take_fields(version, fields)
        return True

    def _take_fields(self, version: str, fields: bytes) -> None:
        headers = self._parsed(fields)
        closes = any("close" in each.lower() for each in headers.get("connection", ()))
        self.keeps = version == "HTTP/1.1" and not closes
        coding = ", ".join(headers.get("transfer-encoding", ())).lower()
        lengths = set(headers.get("content-length", ()))
        if coding:
            if coding != "chunked":
                raise self._no_http(f"the transfer coding {coding!r}")
            self._chunked = True
        elif lengths:
            length = lengths.pop()
            if lengths or not (length.isascii() and length.isdecimal() and len(length) < 19):
                raise self._no_http(f"the length {length!r}")
            self._length = int(length)
            self._check(self._length)
        elif self._status in (204, 304):
            self._length = 0

    def _parsed(self, fields: bytes) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in fields.decode("latin-1").split("\r\n"):
            name, colon, value = line.partition(":")
            if not line:
                continue
            if not colon or name.split() != [name]:
                raise self._no_http(f"the header {line[:60]!r}")
            found.setdefault(name.lower(), []).append(value.strip())
        return found

    # -- a chunked body ---------------------------------------------------------------------------
    def _take_chunks(self) -> bool:
        while True:
            end = self._data.find(b"\r\n")
            if end < 0:
                if len(self._data) > _MAX_HEAD:
                    raise self._no_http("a chunk's size of many lines")
                return False
            size = self._chunk_size(bytes(self._data[:end]))
            if size == 0:
                return self._take_trailer(end)
            self._check(len(self._body) + size)
            start, stop = end + 2, end + 2 + size
            if len(self._data) < stop + 2:
                return False
            self._body += self._data[start:stop]
            if self._data[stop : stop + 2] != b"\r\n":
                raise self._no_http("a chunk of another size")
            del self._data[: stop + 2]

    def _chunk_size(self, line: bytes) -> int:
        digits = line.partition(b";")[0].strip()
        try:
            if not 0 < len(digits) <= 15 or not digits.isalnum():
                raise ValueError
            return int(digits, 16)
        except ValueError:
            raise self._no_http(f"a chunk of the size {line[:60]!r}") from None

    def _take_trailer(self, end: int) -> bool:
        """Whether the lines after the last chunk are all there; nobody reads them."""
        if len(self._data) > _MAX_HEAD:
            raise self._no_http("a trailer of many lines")
        return self._data.find(b"\r\n\r\n", end) >= 0
