"""UsageError and UsageWarning, one clear sentence each, and how to install what is missing."""


class UsageError(ValueError):
    """A mistake of the caller's. The message says what was expected, what came, and what to do next.

    The command line prints it without a traceback and exits with status 2.
    """


class UsageWarning(UserWarning):
    """Something legal that is probably not what the caller meant."""


# The packages that an optional part of minivae needs, by the extra of pyproject.toml that lists them.
EXTRAS = {
    "digits": "scikit-learn",
    "viz": "matplotlib",
    "download": "pooch",
    "mkl": "mkl",
    "peers": "torch jax",
    "gpu": '"cupy-cuda12x[ctk]" nvmath-python',
    "gpu13": '"cupy-cuda13x[ctk]" nvmath-python',
}


def how_to_install(extra: str) -> str:
    """Say how to install the packages of an extra; the end of a UsageError about a missing package."""
    return f'pip install {EXTRAS[extra]} (or, in the folder of minivae\'s source, pip install ".[{extra}]")'
