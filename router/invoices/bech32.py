"""Bech32m: bytes as text that survives being read aloud, typed and scanned, with a checksum (BIP 350).

    prefix | "1" | data, 5 bits per character | 6 characters of checksum

Rules: all of one case; the separator is the last "1"; the bits that pad the data to whole characters are zeros and
fewer than five, so bytes have one text. Any one wrong character is noticed, however long the text; BIP 173's limit of
90 characters, below which any four are, is lifted, because an invoice is signed besides. Of one wrong character the
place is told, never what it should have been. Source: BIP 173 (format), BIP 350 (constant of the checksum).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tallystick.router.errors import InvalidInvoice

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM_SIZE = 6
"""Characters of the checksum."""

_CONSTANT = 0x2BC830A3
_PERIOD = 1_023
"""Beyond so many characters, two places cannot be told from each other by the checksum."""

_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def _reduction(top: int) -> int:
    result = 0
    for bit, generator in enumerate(_GENERATORS):
        result ^= generator if top >> bit & 1 else 0
    return result


_REDUCTIONS = [_reduction(top) for top in range(32)]


def encode(prefix: str, data: bytes) -> str:
    """Return the lower-case text of `data` under `prefix` (lower-case)."""
    return encode_words(prefix, _regroup(data, 8, 5, pad=True))


def decode(text: str) -> tuple[str, bytes]:
    """Return prefix (in lower case) and data; raise InvalidInvoice, which says what is wrong and, if it can, where."""
    prefix, words = decode_words(text)
    rest = len(words) * 5 % 8
    if rest >= 5 or (words and words[-1] & (1 << rest) - 1):
        raise InvalidInvoice("the text does not hold a whole number of bytes")
    return prefix, bytes(_regroup(words, 5, 8, pad=False))


def encode_words(prefix: str, words: Sequence[int]) -> str:
    """Return the text of numbers below 32."""
    check = _residue(prefix, [*words, *[0] * CHECKSUM_SIZE]) ^ _CONSTANT
    checksum = [check >> 5 * (CHECKSUM_SIZE - 1 - i) & 31 for i in range(CHECKSUM_SIZE)]
    return f"{prefix}1" + "".join(ALPHABET[word] for word in (*words, *checksum))


def decode_words(text: str) -> tuple[str, list[int]]:
    """Return prefix and the numbers below 32 of a text; raise InvalidInvoice as `decode`."""
    if not text.isascii():  # the lower case of some other letters is ASCII
        raise InvalidInvoice("the text holds letters that do not occur in such texts; it was copied wrongly")
    lower = text.lower()
    if text not in (lower, text.upper()):
        raise InvalidInvoice("the text mixes upper and lower case; it was copied wrongly")
    prefix, separator, data = lower.rpartition("1")
    if not separator or not prefix or not all("!" <= character <= "~" for character in prefix):
        raise InvalidInvoice('the text does not begin with a readable prefix and a "1"')
    for place, character in enumerate(data, len(prefix) + 2):
        if character not in _VALUES:
            raise InvalidInvoice(f"character {place} of the text, {character!r}, does not occur in such texts")
    words = [_VALUES[character] for character in data]
    if len(words) < CHECKSUM_SIZE:
        raise InvalidInvoice("the text is cut off: it is too short to hold a checksum")
    if error := _residue(prefix, words) ^ _CONSTANT:
        found = _locate(error, len(words))
        hint = "" if found is None else f"; check character {len(text) - found}, {text[-1 - found]!r}"
        raise InvalidInvoice(f"the checksum does not fit, so the text was copied wrongly{hint}")
    return prefix, words[:-CHECKSUM_SIZE]


def _step(state: int, value: int) -> int:
    """Return the remainder of the polynomial `state`, shifted by one place, plus `value`."""
    return (state & 0x1FFFFFF) << 5 ^ value ^ _REDUCTIONS[state >> 25]


def _residue(prefix: str, words: Iterable[int]) -> int:
    state = 1
    codes = prefix.encode()
    for value in (*(code >> 5 for code in codes), 0, *(code & 31 for code in codes), *words):
        state = _step(state, value)
    return state


def _locate(error: int, length: int) -> int | None:
    """Return the place, counted from the end, at which one wrong character explains the remainder `error`."""
    if length > _PERIOD:
        return None
    for value in range(1, 32):
        state = value
        for place in range(length):
            if state == error:
                return place
            state = _step(state, 0)
    return None


def _regroup(values: Iterable[int], size: int, into: int, *, pad: bool) -> list[int]:
    """Return the bits of numbers of `size` bits as numbers of `into` bits; what is left is padded, or dropped."""
    buffer = bits = 0
    groups = []
    for value in values:
        buffer = (buffer << size | value) & 0xFFFF
        bits += size
        while bits >= into:
            bits -= into
            groups.append(buffer >> bits & (1 << into) - 1)
    if pad and bits:
        groups.append(buffer << into - bits & (1 << into) - 1)
    return groups
