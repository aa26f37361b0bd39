"""Every other protocol by the library's own classes: compact, JSON, binary without the C codec."""

from collections.abc import Callable, Mapping
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocol, TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
from thrift.protocol.TJSONProtocol import TJSONProtocol
from thrift.Thrift import TApplicationException, TMessageType, TType
from thrift.transport.TTransport import TMemoryBuffer

from sparts.thrift.limits import Limits
from sparts.thrift.server.calls import Call, Target
from sparts.thrift.server.codec import BadMessage, Codec, Unanswerable

__all__ = ["LibraryCodec", "ProcessorCodec", "protocols"]

Factory = Callable[[Any], Any]


class _Whole(TMemoryBuffer):  # type: ignore[misc]  # thrift is untyped
    """The bytes of one whole message; there is no end to read but the error.

    The library's JSON protocol takes the nothing at an end for more digits of a number, for long.
    """

    def read(self, size: int) -> Any:
        data = super().read(size)
        if not data and size:
            raise EOFError("the message ends early")
        return data


def protocols(limits: Limits) -> dict[str, Factory]:
    """What makes the library's protocol of each codec on a transport, held to *limits*."""
    sizes = {
        "string_length_limit": limits.max_frame_size,
        "container_length_limit": limits.max_container_size,
    }
    return {
        "binary": lambda trans: TBinaryProtocolAccelerated(trans, **sizes),
        "compact": lambda trans: TCompactProtocolAccelerated(trans, **sizes),
        "json": lambda trans: TJSONProtocol(trans, limits.max_frame_size),
        # What an old client sends: no version, and so may its answers be.
        "old": lambda trans: TBinaryProtocol(trans, False, False, **sizes),
    }


class LibraryCodec(Codec):
    """A protocol of the library, on buffers in memory; from any thread."""

    def __init__(self, factory: Factory, targets: Mapping[bytes, Target]) -> None:
        self._factory = factory
        self._targets = {name.decode(): target for name, target in targets.items()}

    def read(self, message: Any) -> Call:
        """The call in *message*; see :class:`Codec`."""
        data = bytes(message.data[message.start : message.end])
        buffer = _Whole(data)
        protocol = self._factory(buffer)
        try:
            name, kind, seqid = protocol.readMessageBegin()
        except Exception as error:
            raise Unanswerable(f"no message of this protocol: {error!r}") from None
        if kind not in (TMessageType.CALL, TMessageType.ONEWAY):
            payload = self._error(
                name, seqid, "not a call", TApplicationException.INVALID_MESSAGE_TYPE
            )
            raise BadMessage(payload, f"a message of the type {kind}")
        target = self._targets.get(name)
        if target is None:
            text = f"Unknown function {name[:100]}"
            payload = self._error(name, seqid, text, TApplicationException.UNKNOWN_METHOD)
            raise BadMessage(payload, f"no method {name[:100]!r}", goes_on=True)
        args = self._arguments(protocol, target, name, seqid)
        return Call(self, message, target, seqid, args)

    def _arguments(self, protocol: Any, target: Target, name: str, seqid: int) -> Any:
        args = target.method.args_class()
        try:
            args.read(protocol)
            protocol.readMessageEnd()
        except Exception as error:
            text = f"bad arguments: {self.reason(error)}"
            payload = self._error(name, seqid, text, TApplicationException.PROTOCOL_ERROR)
            raise BadMessage(payload, f"bad arguments of {target.name}: {error!r}") from None
        return args

    # -- answers ----------------------------------------------------------------------------------
    def value(self, call: Call, value: Any) -> bytes:
        """The answer that is *value*."""
        made: Any = (call.target.method.result_class or object)()
        if not call.target.method.is_void:
            made.success = value
        return self._message(call.target.name, call.seqid, TMessageType.REPLY, made)

    def result(self, call: Call, result: Any) -> bytes:
        """The answer that is the struct *result*."""
        made = (call.target.method.result_class or object)()
        for field in call.target.method.exception_fields:
            setattr(made, field, getattr(result, field, None))
        return self._message(call.target.name, call.seqid, TMessageType.REPLY, made)

    def error(self, call: Call, error: TApplicationException) -> bytes:
        """The answer that is *error*."""
        return self._message(call.target.name, call.seqid, TMessageType.EXCEPTION, error)

    def _error(self, name: str, seqid: int, message: str, kind: int) -> bytes:
        error = TApplicationException(kind, message)
        return self._message(name, seqid, TMessageType.EXCEPTION, error)

    def _message(self, name: str, seqid: int, kind: int, body: Any) -> bytes:
        buffer = TMemoryBuffer()
        protocol = self._factory(buffer)
        protocol.writeMessageBegin(name, kind, seqid)
        body.write(protocol)
        protocol.writeMessageEnd()
        return bytes(buffer.getvalue())


# -- a processor of the user's own ----------------------------------------------------------------
class ProcessorCodec(Codec):
    """Hands messages to a processor as they are, and its answers back."""

    def __init__(self, factory: Factory, target: Target) -> None:
        """*target* is invoked with this codec and the bytes; it calls :meth:`process`."""
        self._factory = factory
        self._target = target

    def read(self, message: Any) -> Call:
        """A call that is the whole *message*."""
        data = bytes(message.data[message.start : message.end])
        protocol = self._factory(_Whole(data))
        try:
            name, _, seqid = protocol.readMessageBegin()
        except Exception as error:
            raise Unanswerable(f"no message of this protocol: {error!r}") from None
        try:
            # Looked through before, so that what the processor raises is not the client's fault.
            protocol.skip(TType.STRUCT)
            protocol.readMessageEnd()
        except Exception as error:
            bad = TApplicationException(TApplicationException.PROTOCOL_ERROR, "bad arguments")
            raise BadMessage(
                self._message(name, seqid, bad), f"bad arguments of {name[:100]}: {error!r}"
            ) from None
        return Call(self, message, self._target, data, (self, data))

    def process(self, processor: Any, data: bytes) -> bytes:
        """Have *processor* answer the message *data*; b"" where it writes nothing."""
        out = TMemoryBuffer()
        processor.process(self._factory(_Whole(data)), self._factory(out))
        return bytes(out.getvalue())

    def value(self, call: Call, value: Any) -> bytes:
        """The answer as the processor wrote it."""
        return bytes(value)

    def error(self, call: Call, error: TApplicationException) -> bytes:
        """The answer that is *error*, to the message whose bytes are the call's ``seqid``."""
        name, kind, seqid = self._factory(_Whole(call.seqid)).readMessageBegin()
        return b"" if kind == TMessageType.ONEWAY else self._message(name, seqid, error)

    def _message(self, name: str, seqid: int, error: TApplicationException) -> bytes:
        out = TMemoryBuffer()
        protocol = self._factory(out)
        protocol.writeMessageBegin(name, TMessageType.EXCEPTION, seqid)
        error.write(protocol)
        protocol.writeMessageEnd()
        return bytes(out.getvalue())
