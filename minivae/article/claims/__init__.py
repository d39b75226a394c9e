"""claims: every claim of the article as something that is measured. The command line is `minivae verify`.

    from minivae.article.claims import verify
    report = verify.run();  report.ok;  print(report)

Reading order: claim (what a claim and a check are), models (what is measured on), then the article from its first page
to its last: expectations (eq. 1–4), divergences (5, 6), framework (7–13), encoder (14–16), decoders (17–22), sampling
(23, 24), training (what it says of training), bounds (what follows: eq. 12 with many samples); then verify (the runner)
and table. docs/bayes.md has the list with its figures.
"""
