"""What the codecs share: a message becomes a call, and what came of it a message."""

from typing import Any

from thrift.Thrift import TApplicationException

from sparts.thrift.server.calls import Call, RawTarget

__all__ = ["BadMessage", "Codec", "Unanswerable", "refusal"]


class Unanswerable(Exception):
    """The message is none, and there is nobody to answer; the connection is of no use."""


class BadMessage(Exception):
    """The message cannot be served, and the client is to be told so."""

    def __init__(self, payload: bytes, reason: str, goes_on: bool = False) -> None:
        """*reason* is for our log; *goes_on*: the connection is still good."""
        super().__init__(reason)
        self.payload = payload
        self.goes_on = goes_on


class Codec:
    """One protocol, for all methods of a server; used by many threads at once."""

    def read(self, message: Any) -> Call:
        """The call in *message*, ``message.data[message.start:message.end]``.

        :raises BadMessage: it is refused with an answer.
        :raises Unanswerable: it is refused without one.
        """
        raise NotImplementedError

    def value(self, call: Call, value: Any) -> bytes:
        """The answer that is *value*; raises what the library does where it does not fit."""
        raise NotImplementedError

    def result(self, call: Call, result: Any) -> bytes:
        """The answer that is the struct *result* of the method."""
        raise NotImplementedError

    def error(self, call: Call, error: TApplicationException) -> bytes:
        """The answer that is *error*."""
        raise NotImplementedError

    @staticmethod
    def reason(error: BaseException) -> str:
        """What of *error* may be told to a client: the library's words, no address of ours."""
        text = str(error)
        return text[:200] if text and " at 0x" not in text else type(error).__name__


class _Ready(Codec):
    """For answers that are there already."""

    def value(self, call: Call, value: Any) -> bytes:
        """The answer itself."""
        return bytes(value)


_REFUSED = RawTarget("refused", lambda payload: payload)
_READY = _Ready()


def refusal(message: Any, payload: bytes) -> Call:
    """A call that is answered with *payload*, in its turn."""
    return Call(_READY, message, _REFUSED, None, payload)
