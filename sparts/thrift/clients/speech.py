"""Which messages a client speaks over which transport, as its options say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from thrift.protocol import TBinaryProtocol, TCompactProtocol, THeaderProtocol, TJSONProtocol
from thrift.transport import THeaderTransport, TTransport, TZlibTransport

from sparts.errors import OptionError
from sparts.thrift.clients.binary import BinaryMessages
from sparts.thrift.clients.connections import WireTransport, ZlibTransport
from sparts.thrift.clients.http import request_head
from sparts.thrift.clients.messages import ProtocolMessages
from sparts.thrift.clients.settings import Settings
from sparts.thrift.interface import Method

__all__ = ["FRAMED", "HTTP", "STREAM", "UNFRAMED", "Speech", "speech_of"]

#: The kinds of transport that connections are made for.
FRAMED, UNFRAMED, STREAM, HTTP = "framed", "unframed", "stream", "http"

#: Apache's factories, as one may have been given in place of the class.
_MADE_BY: Final = {
    TTransport.TFramedTransportFactory: TTransport.TFramedTransport,
    TTransport.TBufferedTransportFactory: TTransport.TBufferedTransport,
    TZlibTransport.TZlibTransportFactory: TZlibTransport.TZlibTransport,
    TBinaryProtocol.TBinaryProtocolAcceleratedFactory: TBinaryProtocol.TBinaryProtocolAccelerated,
}
#: In place of these classes of Apache's we have what fits our sockets.
_OURS: Final[Mapping[Any, type[WireTransport]]] = {
    TTransport.TBufferedTransport: WireTransport,
    TZlibTransport.TZlibTransport: ZlibTransport,
}
_CONTENT_TYPES: Final = {
    TCompactProtocol.TCompactProtocol: "application/vnd.apache.thrift.compact",
    TJSONProtocol.TJSONProtocol: "application/vnd.apache.thrift.json",
}


def _unchanged(raw: Any) -> Any:
    return raw


@dataclass(frozen=True, slots=True)
class Speech:
    """The messages, the kind of transport, and what makes one where a connection needs that."""

    messages: ProtocolMessages
    kind: str
    transport: Callable[[Any], Any] = _unchanged
    http_headers: Mapping[str, str] = field(default_factory=dict)
    #: What of a stream's transport is ours.
    raw: type[WireTransport] = WireTransport

    @property
    def encode(self) -> Callable[[Method, Any, int], Any]:
        """Makes what the connections send of a method, the struct of its arguments, a number."""
        # A stream's transport may keep account of what it writes, so it writes for itself.
        return _as_it_is if self.kind == STREAM else self.messages.encode


def _as_it_is(method: Method, arguments: Any, seqid: int) -> Any:
    return arguments


def speech_of(settings: Settings) -> Speech:
    """What *settings* ask for.

    :raises OptionError: the transport or the protocol cannot be called, or they do not go together.
    """
    transport = _maker("transport_class", settings.transport_class)
    protocol = _maker("protocol_class", settings.protocol_class)
    http = settings.endpoints[0].is_http
    if _has_headers(settings.protocol_class) or _has_headers(transport):
        if http:
            raise OptionError(
                "THeader brings frames of its own, for which HTTP has no use; give another "
                "protocol_class, or no path"
            )
        make = _header(protocol, settings.max_frame_size)
        return Speech(_messages(settings, make, True, frames_itself=True), FRAMED)
    if http:
        headers = _http_headers(settings, protocol)
        for each in settings.endpoints:
            request_head(each, headers)  # which tells now of a header that cannot be sent
        return Speech(_messages(settings, protocol, framed=False), HTTP, http_headers=headers)
    if transport is TTransport.TFramedTransport:
        return Speech(_messages(settings, protocol, framed=True), FRAMED)
    messages = _messages(settings, protocol, framed=False)
    if transport not in _OURS:
        return Speech(messages, STREAM, transport)
    kind = UNFRAMED if isinstance(messages, BinaryMessages) else STREAM
    return Speech(messages, kind, raw=_OURS[transport])


def _messages(
    settings: Settings, protocol: Any, framed: bool, frames_itself: bool = False
) -> ProtocolMessages:
    service, size = settings.multiplex_service, settings.max_frame_size
    if protocol is TBinaryProtocol.TBinaryProtocolAccelerated and BinaryMessages.is_available():
        return BinaryMessages(framed, service, size)
    return ProtocolMessages(protocol, framed, service, size, frames_itself)


def _maker(option: str, given: Any) -> Any:
    """A class or function to call with a transport; a factory of Apache's gives its class."""
    if type(given) in _MADE_BY:
        return _MADE_BY[type(given)]
    for name in ("getTransport", "getProtocol"):
        if not isinstance(given, type) and callable(getattr(given, name, None)):
            return getattr(given, name)
    if not callable(given):
        raise OptionError(
            f"{option}={given!r}; give a class of Apache's library such as TFramedTransport or "
            "TBinaryProtocolAccelerated, or a function of a transport"
        )
    return given


def _is(made: Any, base: type[Any]) -> bool:
    return isinstance(made, type) and issubclass(made, base)


def _has_headers(given: Any) -> bool:
    return isinstance(given, THeaderProtocol.THeaderProtocolFactory) or any(
        _is(given, base)
        for base in (THeaderProtocol.THeaderProtocol, THeaderTransport.THeaderTransport)
    )


def _header(given: Any, max_size: int) -> Callable[[Any], Any]:
    """What makes a protocol with headers; *given* is that, or the protocol inside."""
    answers = (THeaderTransport.THeaderClientType.HEADERS,)
    inner = THeaderTransport.THeaderSubprotocolID

    def make(transport: Any) -> Any:
        if _is(given, THeaderProtocol.THeaderProtocol):
            protocol = given(transport, answers)
        elif _is(given, TCompactProtocol.TCompactProtocol):
            protocol = THeaderProtocol.THeaderProtocol(transport, answers, inner.COMPACT)
        elif _is(given, TBinaryProtocol.TBinaryProtocol):
            protocol = THeaderProtocol.THeaderProtocol(transport, answers, inner.BINARY)
        else:  # a function or factory that makes one with what the user wants
            protocol = given(transport)
        protocol.trans.set_max_frame_size(min(max_size, TTransport.HARD_MAX_FRAME_SIZE - 1))
        protocol.trans.set_max_decompressed_size(min(max_size, TTransport.HARD_MAX_FRAME_SIZE))
        return protocol

    return make


def _http_headers(settings: Settings, protocol: Any) -> Mapping[str, str]:
    found = [kind for base, kind in _CONTENT_TYPES.items() if _is(protocol, base)]
    kind = found[0] if found else "application/x-thrift"
    return {"Content-Type": kind, "Accept": kind, "User-Agent": "sparts", **settings.http_headers}
