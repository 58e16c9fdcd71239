"""Certificates: when they end, read from DER as OpenSSL reads it."""

from __future__ import annotations

import datetime as dt
import ssl

import pytest
import trustme

from techo._tls.certificates import end_of


@pytest.mark.parametrize("year", [2001, 2049, 2050, 2999])
def test_the_end_is_openssl_s(year: int, authority: trustme.CA) -> None:
    """Up to 2049 a certificate has two digits of the year, and four from then on."""
    end = dt.datetime(year, 2, 28, 23, 59, 58, tzinfo=dt.UTC)
    leaf = authority.issue_cert("localhost", not_before=end - dt.timedelta(9), not_after=end)
    pem = leaf.cert_chain_pems[0].bytes().decode()
    assert end_of(ssl.PEM_cert_to_DER_cert(pem)) == end.timestamp()


def test_what_is_no_certificate_has_no_end(authority: trustme.CA) -> None:
    """A server may send anything; wherever it is cut, that is no crash."""
    pem = authority.issue_cert("localhost").cert_chain_pems[0].bytes().decode()
    whole = ssl.PEM_cert_to_DER_cert(pem)
    assert {end_of(whole[:size]) for size in range(len(whole))} == {None}
    assert end_of(b"\x30\x03\x30\x01\x00") is None
