"""TLS for servers: a context made of certificate files, with errors that name the file."""

import os
import ssl

from sparts.errors import OptionError

__all__ = ["BadHandshake", "TLSSocket", "server_context"]


class BadHandshake(ssl.SSLError):
    """What came from the other side is no TLS, or none that both speak."""


class TLSSocket(ssl.SSLSocket):
    """A socket on whose failed handshakes Tornado is silent; any port scanner makes many."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands.

        :raises BadHandshake: it failed; to Tornado that is an end of the stream, which it closes
            without the warning that it has for other errors.
        """
        try:
            super().do_handshake(block)
        except ssl.SSLError as error:
            if error.args[0] in (ssl.SSL_ERROR_SSL, ssl.SSL_ERROR_SYSCALL):
                raise BadHandshake(ssl.SSL_ERROR_EOF, str(error)) from None
            raise


def server_context(
    cert: str,
    key: str | None,
    asked_by: str,
    alpn: tuple[str, ...] = (),
    client_ca: str | None = None,
) -> ssl.SSLContext:
    """The context of a server with the certificate chain in *cert* and its private key.

    Both are PEM files; *key* may be None where *cert* holds the key too. *asked_by* begins the
    errors; *alpn* are the protocols to offer. With *client_ca*, a PEM file too, a client must show
    a certificate that was signed by one in it.

    :raises OptionError: a file cannot be read, is not PEM, is encrypted, or they do not match.
    """
    for path in filter(None, (cert, key, client_ca)):
        _check_readable(path, asked_by)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if alpn:
        context.set_alpn_protocols(alpn)
    try:
        # An encrypted key would else ask for its password on the terminal.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise OptionError(
            f"{asked_by}: {cert} and {key or 'the key in it'} make no TLS server ({reason}); give "
            "a PEM certificate chain and the unencrypted PEM key that belongs to it"
        ) from None
    if client_ca is not None:
        _require_clients(context, client_ca, asked_by)
    return context


def _require_clients(context: ssl.SSLContext, client_ca: str, asked_by: str) -> None:
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise OptionError(
            f"{asked_by}: {client_ca} holds no certificates ({error.reason}); give the PEM "
            "certificates of who signs for clients"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED


def _check_readable(path: str, asked_by: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise OptionError(
            f"{asked_by}: cannot read {path} ({reason}); give a PEM file that this user may read"
        ) from None
