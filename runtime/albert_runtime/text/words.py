"""Where words begin and end in a text."""

import unicodedata

# Zero-width joiner and non-joiner, used within words of Indic scripts and Persian.
_JOINERS = ("\u200c", "\u200d")


def is_one_word(before: str, after: str) -> bool:
    """Whether two adjacent characters belong to one word; Chinese characters are words of their own.

    Marks, such as accents and the vowels of Indic scripts, belong to the letter before them.
    """
    if not (before and after and (before.isalnum() or is_mark(before))):
        return False
    return is_mark(after) or (after.isalnum() and not (is_cjk(before) or is_cjk(after)))


def is_mark(character: str) -> bool:
    """Whether a character modifies the one before it, or joins it to the next."""
    return character in _JOINERS or unicodedata.category(character).startswith("M")


def is_cjk(character: str) -> bool:
    """Whether a character is a Chinese one, or of the scripts and signs that are written with them."""
    return "\u2e80" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003ffff"


def with_marks(text: str, end: int) -> int:
    """``end`` moved past the marks that follow it, which tokenizers drop."""
    while end < len(text) and is_mark(text[end]):
        end += 1
    return end
