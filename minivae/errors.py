"""errors: UsageError and UsageWarning, one clear sentence each."""


def printable(text: object) -> str:
    """Text in one line that cannot drive a terminal: \\n, \\x1b, \\u202e in the place of those characters.

    So are line ends, control characters, marks that reorder text, and bytes that are no UTF-8 escaped. For names of
    files, labels, metadata and servers' answers. Bytes are taken as UTF-8.
    """
    text = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return chr(code).encode("unicode_escape").decode("ascii")


class UsageError(ValueError):
    """The caller has made a mistake; the message says what was expected, what came, and what to do next.

    It is `printable`. The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


class NotFitted(UsageError, AttributeError):
    """Something that `fit` makes was asked for before it."""


class UsageWarning(UserWarning):
    """What was asked for is legal, and probably not what the caller meant. The message is `printable`."""

    def __init__(self, message: object = ""):
        super().__init__(printable(message))
