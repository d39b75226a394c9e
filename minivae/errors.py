"""The two ways minivae speaks to whoever uses it: an error and a warning, one clear sentence each."""


class UsageError(ValueError):
    """A mistake of the caller's. The message says what was expected, what came, and what to do next.

    The command line prints it without a traceback and exits with status 2.
    """


class UsageWarning(UserWarning):
    """Something legal that is probably not what the caller meant."""
