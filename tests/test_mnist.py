"""The main job on real input: an epoch of the 784-500-20 model on MNIST (ten are `make figures`)."""

import json

import pytest
from test_cli import ok

pytestmark = pytest.mark.mnist


@pytest.mark.usefixtures("mnist_env")
def test_one_epoch_of_mnist_reaches_what_the_protocol_reaches(tmp_path):
    """123.7 to 124.8 nats on the test set after the first epoch (seeds 0, 1 and 2)."""
    run = tmp_path / "run"
    options = ["--hidden", "500", "--latent", "20", "--activation", "relu", "--batch-size", "128", "--lr", "1e-3"]
    out = ok("train", "mnist", "--out", run, "--binarize", "dynamic", *options, "--epochs", "1")
    assert "60,000 to train on, 10,000 to test" in out
    figures = json.loads(ok("evaluate", run, "--json"))
    assert figures["rows"] == 10_000
    assert -figures["elbo"] < 126
    figures = json.loads(ok("evaluate", run, "--split", "train", "--json"))
    assert figures["rows"] == 60_000
