"""QR codes of invoices, in upper case: that is an alphabet of which a QR code takes 5.5 bits per character, not 8."""

from __future__ import annotations

import io

import segno

from tallystick.channels.errors import InvalidInput


def as_text(text: str) -> str:
    """Return the code in half blocks, for a terminal that shows light on dark. Raise InvalidInput if it is too long."""
    output = io.StringIO()
    _code(text).terminal(output, compact=True, border=2)
    return output.getvalue()


def as_png(text: str, scale: int = 4) -> bytes:
    """Return the code as a PNG of `scale` pixels per module. Raise InvalidInput if it is too long."""
    output = io.BytesIO()
    _code(text).save(output, kind="png", scale=scale)
    return output.getvalue()


def as_svg(text: str) -> str:
    """Return the code as an SVG document. Raise InvalidInput if it is too long."""
    output = io.BytesIO()
    _code(text).save(output, kind="svg", scale=4)
    return output.getvalue().decode()


def _code(text: str) -> segno.QRCode:
    try:
        return segno.make_qr(text.upper(), error="l", mode="alphanumeric")
    except (segno.DataOverflowError, ValueError) as error:
        raise InvalidInput(f"this text of {len(text)} characters does not fit into a QR code: {error}") from error
