"""sparse: the VAE of counts in PyTorch, with the first product in three ways. Contenders of the race in `counts.py`."""

from __future__ import annotations

from typing import Any

from .. import counts, steps
from . import pytorch

LOGRATE_MAX, LOGTHETA_MAX = 20.0, 10.0  # the clamps of minivae's likelihoods


class Densified(counts.Counts):
    """A batch is made dense, as most PyTorch users do; Adam(fused=True), subnormals flushed to zero."""

    def build(self) -> None:
        self.torch = pytorch.torch_for(self.case, True)
        self.vae = pytorch.VAE(self.torch, {k: v for k, v in self.parameters.items() if not k.startswith("likelihood")})
        weights = self.vae.weights
        if "likelihood.logtheta" in self.parameters:
            logtheta = self.torch.tensor(self.parameters["likelihood.logtheta"], requires_grad=True)
            weights["likelihood.logtheta"] = logtheta
        self.adam = self.torch.optim.Adam(weights.values(), lr=steps.LR, fused=True)

    def facts(self) -> dict[str, Any]:
        return {"torch": self.torch.__version__}

    def first(self, rows: Any, X: Any) -> Any:
        """Return X W + b of the first layer; rows: the batch as CSR."""
        W = self.vae.weights
        return self.torch.addmm(W["encoder.0.b"], X, W["encoder.0.W"])

    def loss(self, start: int, eps: Any) -> Any:
        """Return −ELBO, mean over the rows from `start` on."""
        torch, W, rows = self.torch, self.vae.weights, self.X[start : start + self.batch]
        X = torch.from_numpy(rows.toarray())
        hidden = torch.relu(self.first(rows, X))
        mean, logvar = torch.addmm(W["encoder.1.b"], hidden, W["encoder.1.W"]).chunk(2, dim=1)
        s = self.vae.mlp("decoder", mean + torch.exp(0.5 * logvar) * eps).clamp(max=LOGRATE_MAX)
        if self.case["likelihood"] == "poisson":
            nll = torch.exp(s) - X * s + torch.lgamma(X + 1)
        else:
            logtheta = W["likelihood.logtheta"].clamp(-LOGTHETA_MAX, LOGTHETA_MAX)
            theta, both = torch.exp(logtheta), torch.logaddexp(s, logtheta)
            choices = torch.lgamma(X + theta) - torch.lgamma(theta) - torch.lgamma(X + 1)
            nll = (X + theta) * both - X * s - theta * logtheta - choices
        kl = 0.5 * (mean * mean + logvar.exp() - logvar - 1).sum()
        return (nll.sum() + kl) / self.batch

    def results(self) -> dict[str, Any]:
        self.adam.zero_grad()
        loss = self.loss(0, self.torch.tensor(self.eps))
        loss.backward()
        return {"loss": loss.item(), **self.vae.gradients()}

    def run(self) -> None:
        self.adam.zero_grad()
        start = self.next()
        self.loss(start, self.torch.randn(self.batch, self.case["latent"])).backward()
        self.adam.step()


class Csr(Densified):
    """The first product with torch.sparse_csr_tensor."""

    def first(self, rows: Any, X: Any) -> Any:
        torch, W = self.torch, self.vae.weights
        parts = (torch.from_numpy(part) for part in (rows.indptr, rows.indices, rows.data))
        return torch.sparse_csr_tensor(*parts, size=rows.shape) @ W["encoder.0.W"] + W["encoder.0.b"]


class Bag(Densified):
    """The first product with embedding_bag, which adds up weighted rows of W."""

    def first(self, rows: Any, X: Any) -> Any:
        torch, W = self.torch, self.vae.weights
        columns, starts, values = (torch.from_numpy(part) for part in (rows.indices, rows.indptr[:-1], rows.data))
        bag = self.vae.F.embedding_bag(columns, W["encoder.0.W"], starts, mode="sum", per_sample_weights=values)
        return bag + W["encoder.0.b"]
