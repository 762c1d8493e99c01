"""When certificates end: of the files that the settings of served repositories name."""

from __future__ import annotations

import datetime
import re
import ssl
from pathlib import Path
from typing import Final

_PEM: Final = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.*?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)
_SEQUENCE: Final = 0x30
_UTC_TIME: Final = 0x17
_MOST: Final = 1 << 20  # bytes of a file


def expiry(path: Path, *, chain: bool) -> float | None:
    """When the certificate in a file ends, in seconds since the epoch; None where there is none that can be read.

    :param chain: the first one counts (it is our own); else the one that ends last (the others are being replaced)
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST).decode(errors="replace")
        ends = [_end(ssl.PEM_cert_to_DER_cert(pem)) for pem in _PEM.findall(text)[: 1 if chain else None]]
    except (OSError, ValueError, IndexError):
        return None
    return max(ends, default=None)


def _end(der: bytes) -> float:
    """The field notAfter (RFC 5280, 4.1).

    :raises ValueError, IndexError: this is no certificate
    """
    certificate = _read(der, 0)[1]
    body = _read(der, certificate)[1]  # of the part that is signed
    fields: list[tuple[int, int]] = []
    while len(fields) < 5:
        tag, start, end = _read(der, body)
        if tag != 0xA0:  # the version, which the first one lacks
            fields.append((tag, start))
        body = end
    tag, validity = fields[3]
    if tag != _SEQUENCE:
        raise ValueError("no validity")
    _, _, start = _read(der, validity)
    tag, start, end = _read(der, start)
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.datetime.strptime(f"{text}+0000", "%Y%m%d%H%M%SZ%z").timestamp()


def _read(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the DER value at a place, where its content begins, and where the next value does."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[start : start + count])
        start += count
    return der[at], start, start + length
