"""claims: the claims of the article as measurements. The command line is `minivae verify`.

    from minivae.article.claims import verify
    report = verify.run();  report.ok;  print(report)

Reading order: claim (claims and checks), models (the models that are measured), then the article in its order:
expectations (eq. 1–4), divergences (5, 6), framework (7–13), encoder (14–16), decoders (17–22), sampling (23, 24),
training, bounds (eq. 12 with many samples); then verify (the runner) and report. docs/bayes.md has the list with its
figures.
"""
