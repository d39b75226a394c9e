"""q(x, z) and p(x, z) of a discrete toy, before and after descending on 𝓛 over encoder, decoder and prior."""

from _book import axes

from minivae.article.bayes import DiscreteJoint


def draw(full):
    toy = DiscreteJoint.random(6, 4, seed=3)
    fitted = toy
    for _ in range(2000 if full else 300):  # EM: eq. 14 for the encoder, then the best decoder and prior
        encoder = fitted.posterior
        pairs = toy.data[:, None] * encoder
        prior = pairs.sum(axis=0)
        fitted = DiscreteJoint(toy.data, encoder, (pairs / prior).T, prior)
    figure, panels = axes(4, width=7.5, height=2.7, sharey=True)
    top = max(table.max() for t in (toy, fitted) for table in (t.data_joint, t.model_joint))
    for panel, (t, kind, when) in zip(
        panels, [(t, k, w) for t, w in ((toy, "before"), (fitted, "after")) for k in "pq"], strict=True
    ):
        panel.imshow(t.data_joint if kind == "p" else t.model_joint, vmin=0, vmax=top, cmap="viridis")
        panel.set(title=f"{kind}(x, z), {when}", xlabel="z", xticks=[], yticks=[])
    panels[0].set_ylabel("x")
    figure.suptitle(f"KL = {toy.kl_joint():.3f} before, {fitted.kl_joint():.3f} after", fontsize=10)
    return figure
