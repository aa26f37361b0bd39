"""The usual call on the shortest way: one framed, strict binary message, whole.

All that this does the layers do too (framing, codec, dispatcher, gate), and they are asked where
anything is unusual: a shortcut only saves the calls between them, a third of the time that a small
call costs. They are closures, as Python finds a closure's variables fastest.
"""

import io
import struct
import time
from collections.abc import Callable
from typing import Any, Final

from sparts.thrift.incoming import Message
from sparts.thrift.limits import Limits
from sparts.thrift.server.binary import BinaryCodec
from sparts.thrift.server.calls import CLIENT, Call, Target
from sparts.thrift.server.connection import Connection
from sparts.thrift.server.crew import Crew
from sparts.thrift.server.dispatch import Dispatcher
from sparts.thrift.server.gate import Gate
from sparts.thrift.server.runners import Pending, Runners

__all__ = ["PROOF", "SERVED", "Shortcut", "on_a_loop", "with_threads"]

#: Calls in a row that must be quick until a method may run with nobody watching, or, if it was
#: seen to block, by the leader at all.
PROOF: Final = 32
#: What a shortcut returns when it has answered, or will.
SERVED: Final = b""
#: The size of the frame, the version and type of the message, the length of the method's name.
_head = struct.Struct(">iIi").unpack_from
_size = struct.Struct(">i").pack
_CALL: Final = 0x80010001
_VOID: Final = b"\0"

#: Serves ``(connection, data, now)``: SERVED; None if the layers are to do it; or the bytes of an
#: answer that is still to be sent, by a leader that was deposed meanwhile.
Shortcut = Callable[[Connection, bytes, float], bytes | None]
_Parse = Callable[[bytes], "tuple[Target, bytes, Any] | None"]


def _codec_of(dispatcher: Dispatcher) -> BinaryCodec | None:
    """The codec, if it has a quick way and no message is to be looked through before."""
    codec = dispatcher.codecs["binary"]
    quick = isinstance(codec, BinaryCodec) and dispatcher.limits.max_depth == Limits.max_depth
    return codec if quick and isinstance(codec, BinaryCodec) else None


def _parser(codec: BinaryCodec, dispatcher: Dispatcher) -> _Parse:
    """What finds the method, the sequence number and the arguments; None is for the layers."""
    targets, decode, limit = dispatcher.targets, codec.decode, dispatcher.limits.max_frame_size
    protocol = codec.new_protocol()  # of the leader or the loop, so of one thread at a time
    trans, new_buffer = protocol.trans, io.BytesIO

    def parse(data: bytes) -> tuple[Target, bytes, Any] | None:
        try:
            size, kind, length = _head(data)
            at = 12 + length
            target = targets[data[12:at]]
        except (struct.error, KeyError):
            return None
        end = len(data)
        if kind != _CALL or size + 4 != end or size > limit or target.needs_layers:
            return None
        start = at + 4
        if target.takes_nothing:
            usual = end == start + 1 and not data[start]
            return (target, data[at:start], None) if usual else None
        trans.cstringio_buf = buffer = new_buffer(data)
        buffer.seek(start)
        try:
            args = decode(None, protocol, target.args_coding)
        except Exception:
            return None
        return (target, data[at:start], args) if buffer.tell() == end else None

    return parse


def _encoder(codec: BinaryCodec) -> Callable[[Target, bytes, Any], bytes]:
    """What makes an answer of a value; it raises where the value does not fit."""
    encode = codec.encode

    def answer(target: Target, seqid: bytes, value: Any) -> bytes:
        if target.result_class is None:
            return target.reply_head + seqid + _VOID
        made = target.result_class()
        made.success = value
        return target.reply_head + seqid + encode(made, target.result_coding)

    return answer


def with_threads(
    dispatcher: Dispatcher, crew: Crew, gate: Gate, careful: bool, timed: list[Target]
) -> Shortcut | None:
    """The shortcut of the engine with threads; None where the codec has no quick way.

    In *timed* stand the methods whose ``recent`` is to be counted.
    *careful*: handlers may block, so they are run under a claim, and only if somebody watches.
    """
    codec = _codec_of(dispatcher)
    if codec is None:
        return None
    parse, encoded = _parser(codec, dispatcher), _encoder(codec)
    claims, unclaim = crew.claims, crew.claims.pop
    clock, set_client = time.monotonic, CLIENT.set

    def serve(connection: Connection, data: bytes, now: float) -> bytes | None:
        found = parse(data)
        if found is None or gate.draining:
            return None
        target, seqid, args = found
        if target.is_spawned or (
            careful and (target.blocks or (crew.watcher is None and target.streak < PROOF))
        ):
            return None
        set_client(connection.client)
        if careful:
            connection.target = target
            claims[0] = connection
        try:
            payload = encoded(target, seqid, target.invoke(args))
        except BaseException as error:
            call = Call(codec, None, target, seqid, args)
            call.client = connection.client
            payload = dispatcher.failed(call, error)
        duration = 1000.0 * (clock() - now)
        if careful:
            if unclaim(0, None) is None:
                target.count()
                target.time(duration)
                return _size(len(payload)) + payload
            target.streak += 1
        recent = target.recent
        if not recent:
            timed.append(target)
        recent.append(duration)
        gate.send(connection, _size(len(payload)) + payload, now)
        return SERVED

    return serve


def on_a_loop(
    dispatcher: Dispatcher,
    runners: Runners,
    gate: Gate,
    pend: Callable[[Connection, Call, Pending], object],
    timed: list[Target],
) -> Shortcut | None:
    """The shortcut of the engine on a loop; *pend* takes over a call that does not end at once.

    In *timed* stand the methods whose ``recent`` is to be counted.
    """
    codec = _codec_of(dispatcher)
    if codec is None:
        return None
    parse, encoded, begin = _parser(codec, dispatcher), _encoder(codec), runners.begin
    clock = time.monotonic

    def serve(connection: Connection, data: bytes, now: float) -> bytes | None:
        found = parse(data)
        if found is None or gate.draining or connection.calls:
            return None
        target, seqid, args = found
        if not target.is_async:
            return None
        try:
            value = begin(target.invoke(args), connection.client)
            if isinstance(value, Pending):
                call = Call(codec, Message(data, 4, len(data), "binary"), target, seqid, args)
                call.client, call.arrived = connection.client, now
                pend(connection, call, value)
                return SERVED
            payload = encoded(target, seqid, value)
        except BaseException as error:
            call = Call(codec, None, target, seqid, args)
            call.client = connection.client
            payload = dispatcher.failed(call, error)
        recent = target.recent
        if not recent:
            timed.append(target)
        recent.append(1000.0 * (clock() - now))
        gate.send(connection, _size(len(payload)) + payload, now)
        return SERVED

    return serve
