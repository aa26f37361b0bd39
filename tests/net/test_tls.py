"""Certificates: what is accepted, and what errors say."""

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sparts.errors import OptionError
from sparts.net.tls import server_context

BY = "--http-cert no.pem"


def test_two_files(certificate: Path) -> None:
    """A certificate and its key make a server's context, for HTTP/1.1."""
    context = server_context(str(certificate / "cert.pem"), str(certificate / "key.pem"), BY)
    assert isinstance(context, ssl.SSLContext)


def test_one_file(certificate: Path, tmp_path: Path) -> None:
    """Both may be in one file."""
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join((certificate / n).read_bytes() for n in ("key.pem", "cert.pem")))
    assert isinstance(server_context(str(both), None, BY), ssl.SSLContext)


@pytest.mark.parametrize(("cert", "key"), [("no.pem", "key.pem"), ("cert.pem", "no.pem")])
def test_a_missing_file(certificate: Path, cert: str, key: str) -> None:
    """A missing file is named, and who asked for it."""
    with pytest.raises(OptionError, match=r"cannot read .*no.pem \(No such file") as caught:
        server_context(str(certificate / cert), str(certificate / key), BY)
    assert str(caught.value).startswith(f"{BY}: ")


def test_no_pem(certificate: Path, tmp_path: Path) -> None:
    """A file that is no PEM, and a certificate without its key, are told as that."""
    (tmp_path / "text").write_text("hello")
    for cert, key in [(tmp_path / "text", None), (certificate / "cert.pem", None)]:
        with pytest.raises(OptionError, match="make no TLS server"):
            server_context(str(cert), key, BY)


def test_keys_that_do_not_serve(
    certificate: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    """Another certificate's key is refused; so is an encrypted one, without asking for a word."""
    openssl = need("openssl")
    other, locked = tmp_path / "other.pem", tmp_path / "locked.pem"
    subprocess.run(
        [openssl, "genpkey", "-algorithm", "RSA", "-out", str(other)],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [openssl, "pkey", "-in", str(certificate / "key.pem"), "-aes256", "-passout", "pass:word"]
        + ["-out", str(locked)],
        check=True,
        capture_output=True,
    )
    for key in (other, locked):
        with pytest.raises(OptionError, match="make no TLS server"):
            server_context(str(certificate / "cert.pem"), str(key), BY)
    shutil.rmtree(tmp_path)
