"""Text of others for a terminal.

Invariant: what comes out moves no cursor, changes no colour and begins no line: a terminal obeys what it is shown.
"""


def printable(text: str) -> str:
    """The text with everything escaped that is not to be seen, as Python writes it: an escape is ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
