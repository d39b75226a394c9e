"""article: the theory of Su's article (bayes), its equations and its claims, as code."""
