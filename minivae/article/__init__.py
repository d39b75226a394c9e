"""article: the article's theory (bayes), equations and claims, as code."""
