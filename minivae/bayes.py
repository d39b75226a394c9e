"""bayes: the public name of `minivae.article.bayes` and its files. Importing this module puts them in its place."""

import sys
from importlib import import_module
from pkgutil import iter_modules

from .article import bayes

sys.modules[__name__] = bayes
for _file in iter_modules(bayes.__path__):
    sys.modules[f"{__name__}.{_file.name}"] = import_module(f"{bayes.__name__}.{_file.name}")
