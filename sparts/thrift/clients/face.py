"""What users see of both clients: how they are made, and methods as attributes."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, Unpack

from sparts.errors import nearest
from sparts.thrift.clients.settings import DEFAULTS, Options, Settings
from sparts.thrift.interface import Method

__all__ = ["ClientFace"]


class ClientFace:
    """What the blocking and the asyncio client have in common."""

    #: The module that the Thrift compiler made of the service.
    MODULE: ClassVar[Any] = DEFAULTS["module"]
    #: Where the service is on an HTTP server; None: it is no HTTP.
    PATH: ClassVar[str | None] = DEFAULTS["path"]
    #: Whether the first connection waits for the first call.
    LAZY: ClassVar[bool] = DEFAULTS["lazy"]
    #: Seconds for a connection to be made, with TLS; None: as long as the call may take.
    CONNECT_TIMEOUT: ClassVar[float | None] = DEFAULTS["connect_timeout"]
    #: Seconds for a whole call, with all waits and retries; None: no limit.
    CALL_TIMEOUT: ClassVar[float | None] = DEFAULTS["call_timeout"]
    #: A transport class of Apache's library, or a function that wraps a transport.
    TRANSPORT_CLASS: ClassVar[Any] = DEFAULTS["transport_class"]
    #: A protocol class of Apache's library, or a function of a transport.
    PROTOCOL_CLASS: ClassVar[Any] = DEFAULTS["protocol_class"]
    #: The name of the service in a multiplexed server; None: it is none.
    MULTIPLEX_SERVICE: ClassVar[str | None] = DEFAULTS["multiplex_service"]
    #: The methods that may be called twice without harm, which are tried again after a loss.
    IDEMPOTENT: ClassVar[Any] = DEFAULTS["idempotent"]
    #: How often and how soon.
    RETRY: ClassVar[Any] = DEFAULTS["retry"]
    #: What limits all retries together; None: one for each client.
    RETRY_BUDGET: ClassVar[Any] = DEFAULTS["retry_budget"]
    #: Whether a later endpoint is asked only while those before it fail; else they take turns.
    PRIMARY_FIRST: ClassVar[bool] = DEFAULTS["primary_first"]
    #: Connections to one endpoint, at most.
    MAX_CONNECTIONS: ClassVar[int] = DEFAULTS["max_connections"]
    #: Seconds after which an unused connection is closed; None: never.
    IDLE_TIMEOUT: ClassVar[float | None] = DEFAULTS["idle_timeout"]
    #: Bytes of a message, sent or received, at most.
    MAX_FRAME_SIZE: ClassVar[int] = DEFAULTS["max_frame_size"]
    #: True, or an ssl.SSLContext; given by CA or CERT, too.
    TLS: ClassVar[Any] = DEFAULTS["tls"]
    #: A PEM file of the authorities to trust; None: those of the system.
    CA: ClassVar[str | None] = DEFAULTS["ca"]
    #: This client's own certificate chain and private key, PEM files.
    CERT: ClassVar[str | None] = DEFAULTS["cert"]
    KEY: ClassVar[str | None] = DEFAULTS["key"]
    #: Whom the server's certificate must name; None: the host of the endpoint.
    SERVER_NAME: ClassVar[str | None] = DEFAULTS["server_name"]
    #: More headers of every HTTP request.
    HTTP_HEADERS: ClassVar[Mapping[str, str]] = DEFAULTS["http_headers"]

    _settings: Settings
    _timeout: float

    def __init__(self, endpoints: Any, **options: Unpack[Options]) -> None:
        """A client of the servers at *endpoints*: one, or a list of some.

        Each is ``(host, port)``, ``'host:port'``, ``'tls://host:port'``, ``'unix:/path'`` or a
        URL with ``http://`` or ``https://``. The options are the class attributes in lower case.

        :raises OptionError: an endpoint or an option is wrong; the message says what is right.
        """
        self._settings = Settings.of(type(self), endpoints, options)
        self._timeout = self._settings.call_timeout
        self._begin()

    @classmethod
    def for_hostport(cls, host: str, port: int, **options: Unpack[Options]) -> Self:
        """A client of the server on that *host* and *port*."""
        return cls((host, port), **options)

    @classmethod
    def for_localhost(cls, port: int, **options: Unpack[Options]) -> Self:
        """A client of the server on that *port* of this machine."""
        return cls(("localhost", port), **options)

    # -- what the clients differ in ---------------------------------------------------------------
    def _begin(self) -> None:
        """Make what makes the calls."""
        raise NotImplementedError

    def _remote(self, method: Method) -> Callable[..., Any]:
        """A function that calls *method*."""
        raise NotImplementedError

    # -- methods ----------------------------------------------------------------------------------
    def method(self, name: str) -> Callable[..., Any]:
        """The function that calls that method, also where the client has an attribute so named.

        :raises AttributeError: the service has no such method; the message names the nearest.
        """
        methods = self._settings.interface.methods
        found = methods.get(name)
        if found is None:
            service = self._settings.interface.name
            raise AttributeError(f"{service} has no method {name!r}{nearest(name, methods)}")
        remote: Any = self._remote(found)
        remote.__name__ = name
        remote.__qualname__ = f"{self._settings.interface.name}.{name}"
        remote.__module__ = found.args_class.__module__
        remote.__doc__ = found.doc or None
        remote.__signature__ = found.signature
        function: Callable[..., Any] = remote
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_settings" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        # Kept, so that the next time it is found as quickly as any attribute.
        self.__dict__[name] = function = self.method(name)
        return function

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._settings.interface.methods})

    def __repr__(self) -> str:
        where = ", ".join(map(str, self._settings.endpoints))
        return f"<{type(self).__name__} of {self._settings.interface.name} at {where}>"

    def with_timeout(self, seconds: float | None) -> Self:
        """This client with another deadline for each call; None: no limit.

        It shares the connections, and ends with this one: ``client.with_timeout(0.2).ping()``.
        """
        other = object.__new__(type(self))
        kept = self.__dict__.keys() - self._settings.interface.methods.keys()
        other.__dict__.update({name: self.__dict__[name] for name in kept})
        other._timeout = Settings.seconds("with_timeout", seconds)
        return other
