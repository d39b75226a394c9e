"""The papers' scripts, `--quick`: a few steps on a few rows, made up, so that no data need be there."""

import importlib

import numpy as np
import pytest


@pytest.mark.parametrize("name", ["jaanli", "pythae", "burda", "kingma"])
def bench_paper(benchmark, monkeypatch, rng, tmp_path, name):
    script, digits, paper = (importlib.import_module(module) for module in (name, "digits", "paper"))
    parts = [rng.random((300, digits.PIXELS), np.float32) for _ in digits.PARTS]
    monkeypatch.setattr(digits, "grey", lambda: digits.Digits(*parts, "made up"))
    benchmark.group = "a paper's protocol in short"
    benchmark.pedantic(script.main, (["--quick", "--runs", str(tmp_path)],), rounds=1)
    figures = paper.Result.read(tmp_path / f"{name}.json").figures
    assert any(figure.ours is not None for figure in figures)
