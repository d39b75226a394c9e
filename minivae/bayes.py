"""bayes: the public name of `minivae.article.bayes`, which this module is replaced by when it is imported."""

import sys

from .article import bayes

sys.modules[__name__] = bayes
