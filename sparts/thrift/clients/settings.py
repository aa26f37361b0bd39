"""What a client was asked for: its options, checked, and what follows from them."""

import math
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport.TTransport import TFramedTransport

from sparts.errors import OptionError, nearest
from sparts.thrift.clients.endpoints import Endpoint, parse_endpoints
from sparts.thrift.clients.retry import RetryBudget, RetryPolicy
from sparts.thrift.interface import Interface

__all__ = ["DEFAULTS", "Options", "Settings", "tls_context"]


class Options(TypedDict, total=False):
    """The keywords of a client; each has a class attribute of the same name in capitals."""

    module: Any
    path: str | None
    lazy: bool
    connect_timeout: float | None
    call_timeout: float | None
    transport_class: Any
    protocol_class: Any
    multiplex_service: str | None
    idempotent: Collection[str]
    retry: RetryPolicy
    retry_budget: RetryBudget | None
    primary_first: bool
    max_connections: int
    idle_timeout: float | None
    max_frame_size: int
    tls: bool | ssl.SSLContext
    ca: str | None
    cert: str | None
    key: str | None
    server_name: str | None
    http_headers: Mapping[str, str]


#: What holds where neither the keyword nor the class says something else.
DEFAULTS: Final = Options(
    module=None,
    path=None,
    lazy=True,
    connect_timeout=3.0,
    call_timeout=30.0,
    transport_class=TFramedTransport,
    protocol_class=TBinaryProtocolAccelerated,
    multiplex_service=None,
    idempotent=(),
    retry=RetryPolicy(),
    retry_budget=None,
    primary_first=False,
    max_connections=16,
    idle_timeout=60.0,
    max_frame_size=16_384_000,
    tls=False,
    ca=None,
    cert=None,
    key=None,
    server_name=None,
    http_headers={},
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one client, checked; durations that are None became infinite."""

    interface: Interface
    endpoints: tuple[Endpoint, ...]
    lazy: bool
    connect_timeout: float
    call_timeout: float
    transport_class: Any
    protocol_class: Any
    multiplex_service: str | None
    idempotent: frozenset[str]
    retry: RetryPolicy
    retry_budget: RetryBudget
    primary_first: bool
    max_connections: int
    idle_timeout: float
    max_frame_size: int
    tls: ssl.SSLContext | None
    server_name: str | None
    http_headers: Mapping[str, str]

    @classmethod
    def of(cls, client: type[Any], endpoints: Any, given: Mapping[str, Any]) -> "Settings":
        """The settings of a *client* class with these *endpoints* and the *given* keywords.

        :raises OptionError: one is unknown, wrong, or does not fit the others.
        """
        for name in given:
            if name not in DEFAULTS:
                hint = nearest(name, DEFAULTS)
                raise OptionError(f"{client.__name__} has no option {name!r}{hint}")
        asked = {name: _value(client, name, given) for name in DEFAULTS}
        if asked["module"] is None:
            raise OptionError(
                f"{client.__name__} needs the module that the Thrift compiler made of the "
                f"service: {client.__name__}(endpoint, module=example.Calculator), or the class "
                "attribute MODULE"
            )
        interface = Interface.of(asked["module"])
        tls = tls_context(asked["tls"], asked["ca"], asked["cert"], asked["key"])
        found = parse_endpoints(endpoints, asked["path"], tls is not None)
        _check_endpoints(found, tls)
        for name in ("max_connections", "max_frame_size"):
            if not isinstance(asked[name], int) or not 1 <= asked[name] < 2**31:
                raise OptionError(f"{name}={asked[name]!r}; give a whole number, 1 or more")
        if tls is None and any(each.is_secure for each in found):
            tls = ssl.create_default_context()
        return cls(
            interface=interface,
            endpoints=found,
            lazy=bool(asked["lazy"]),
            connect_timeout=cls.seconds("connect_timeout", asked["connect_timeout"]),
            call_timeout=cls.seconds("call_timeout", asked["call_timeout"]),
            transport_class=asked["transport_class"],
            protocol_class=asked["protocol_class"],
            multiplex_service=asked["multiplex_service"],
            idempotent=_idempotent(asked["idempotent"], interface),
            retry=asked["retry"],
            retry_budget=asked["retry_budget"] or RetryBudget(),
            primary_first=bool(asked["primary_first"]),
            max_connections=asked["max_connections"],
            idle_timeout=cls.seconds("idle_timeout", asked["idle_timeout"]),
            max_frame_size=asked["max_frame_size"],
            tls=tls,
            server_name=asked["server_name"],
            http_headers=dict(asked["http_headers"]),
        )

    @staticmethod
    def seconds(name: str, value: Any) -> float:
        """A duration, infinite for None.

        :raises OptionError: it is none.
        """
        if value is None:
            return math.inf
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise OptionError(f"{name}={value!r}; give seconds, more than 0, or None for no limit")
        return float(value)


def _value(client: type[Any], name: str, given: Mapping[str, Any]) -> Any:
    """The keyword, or the class attribute; a timeout may be None, else None is "not given"."""
    if name in given and (given[name] is not None or name.endswith("_timeout")):
        return given[name]
    return getattr(client, name.upper())


def _idempotent(names: Any, interface: Interface) -> frozenset[str]:
    if isinstance(names, str):
        raise OptionError(f"idempotent={names!r}; give a set of names: {{{names!r}}}")
    for name in names:
        if name not in interface.methods:
            raise OptionError(
                f"idempotent names {name!r}, which {interface.name} has not"
                f"{nearest(name, interface.methods)}"
            )
    return frozenset(names)


def _check_endpoints(endpoints: tuple[Endpoint, ...], tls: ssl.SSLContext | None) -> None:
    if len({each.is_http for each in endpoints}) > 1:
        raise OptionError(
            f"endpoints with and without HTTP: {', '.join(map(str, endpoints))}; give one kind, "
            "or make a client for each"
        )
    for each in endpoints:
        if tls is not None and each.scheme == "http":
            raise OptionError(f"TLS was asked for, but {each} is without; give an https:// URL")


# -- TLS ------------------------------------------------------------------------------------------
def tls_context(
    tls: bool | ssl.SSLContext, ca: str | None, cert: str | None, key: str | None
) -> ssl.SSLContext | None:
    """The context for a client; None when nothing asks for TLS.

    *ca* is a PEM file of the authorities to trust, in place of the system's; *cert* and *key* are
    this client's own certificate chain and private key, where the server wants one.

    :raises OptionError: a file cannot be used, or a context is given with files.
    """
    if isinstance(tls, ssl.SSLContext):
        if ca or cert or key:
            raise OptionError("tls= is a context, so ca, cert and key go into that, not beside it")
        return tls
    if key and not cert:
        raise OptionError(f"key={key!r} without cert; give the certificate that belongs to it")
    if not (tls or ca or cert):
        return None
    context = ssl.create_default_context()
    if ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load("ca", ca, lambda: context.load_verify_locations(ca))
    if cert:
        # An encrypted key would else ask for its password on the terminal.
        _load("cert", cert, lambda: context.load_cert_chain(cert, key, password=lambda: b""))
    return context


def _load(option: str, path: str, load: Any) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise OptionError(
            f"{option}={path!r} cannot be used ({reason}); give PEM files that this user may read, "
            "the key unencrypted"
        ) from None
