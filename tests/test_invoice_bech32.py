"""Bech32m: BIP 350's published strings, one text for the same bytes, and every slip of a finger noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.router.errors import InvalidInvoice
from tallystick.router.invoices import bech32
from tallystick.router.invoices.bech32 import ALPHABET

VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]
INVALID = [
    (" 1xj0phk", "readable prefix"),
    ("\x7f1g6xzxy", "readable prefix"),
    ("\x801vctc34", "letters that do not occur"),
    ("qyrz8wqd2c9m", "readable prefix"),
    ("1qyrz8wqd2c9m", "readable prefix"),
    ("16plkw9", "readable prefix"),
    ("1p2gdwpf", "readable prefix"),
    ("y1b0jsk6g", "character 3 of the text, 'b'"),
    ("lt1igcx5c0", "character 4 of the text, 'i'"),
    ("in1muywd", "cut off"),
    ("mm1crxm3i", "character 9 of the text, 'i'"),
    ("au1s5cgom", "character 8 of the text, 'o'"),
    ("M1VUXWEZ", "checksum"),
    ("A1lqfn3a", "mixes"),
    ("", "readable prefix"),
]
BECH32_OF_BIP_173 = ["A12UEL5L", "a12uel5l", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "?1ezyfcl"]


@pytest.mark.parametrize("text", VALID)
def test_what_bip_350_lists_as_valid(text: str) -> None:
    prefix, words = bech32.decode_words(text)
    assert bech32.encode_words(prefix, words) == text.lower()


@pytest.mark.parametrize(("text", "why"), INVALID)
def test_what_bip_350_lists_as_invalid(text: str, why: str) -> None:
    with pytest.raises(InvalidInvoice, match=why):
        bech32.decode_words(text)


@pytest.mark.parametrize("text", BECH32_OF_BIP_173)
def test_the_older_checksum_is_refused(text: str) -> None:
    with pytest.raises(InvalidInvoice, match="checksum"):
        bech32.decode_words(text)


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20), st.binary(max_size=700))
def test_bytes_have_one_text_in_two_cases(prefix: str, data: bytes) -> None:
    text = bech32.encode(prefix, data)
    assert bech32.decode(text) == bech32.decode(text.upper()) == (prefix, data)


def test_bytes_of_a_published_address() -> None:
    program = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    text = "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"  # of BIP 350; 1 is its witness version
    assert bech32.decode_words(text)[1] == [1, *bech32.decode_words(bech32.encode("bc", program))[1]]


@given(st.binary(min_size=1, max_size=600), st.data())
def test_one_wrong_character_is_refused_and_its_place_is_told(data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode("tally1", data)
    place = draw.draw(st.integers(7, len(text) - 1))
    wrong = draw.draw(st.sampled_from(ALPHABET.replace(text[place], "")))
    with pytest.raises(InvalidInvoice, match=f"check character {place + 1}, {wrong!r}"):
        bech32.decode(text[:place] + wrong + text[place + 1 :])


@given(st.binary(min_size=1, max_size=50), st.data())
def test_up_to_four_wrong_characters_are_refused_in_short_texts(data: bytes, draw: st.DataObject) -> None:
    text = list(bech32.encode("t", data[:45]))
    for place in draw.draw(st.lists(st.integers(2, len(text) - 1), min_size=2, max_size=4, unique=True)):
        text[place] = draw.draw(st.sampled_from(ALPHABET.replace(text[place], "")))
    with pytest.raises(InvalidInvoice, match="checksum"):
        bech32.decode("".join(text))


def test_beyond_the_checksums_period_no_place_is_guessed() -> None:
    text = bech32.encode("t", bytes(700))
    with pytest.raises(InvalidInvoice, match=r"copied wrongly$"):
        bech32.decode(text[:9] + "p" + text[10:])


def test_padding_has_one_form() -> None:
    for words in ([0], [0, 1], [0, 0, 0]):  # a whole character of padding; a bit in it; again
        with pytest.raises(InvalidInvoice, match="whole number of bytes"):
            bech32.decode(bech32.encode_words("t", words))
    assert bech32.decode(bech32.encode_words("t", [0, 0])) == ("t", b"\0")
