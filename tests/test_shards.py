"""Training on ranks: the same bits for every number of them, by ranks that are threads (MPI's are in test_mpi.py)."""

import functools
import hashlib
import itertools
import os
import signal

import numpy as np
import pytest
import scipy.sparse
from tolerances import assert_sums
from worlds import together

import minivae as mv
from minivae.distributed import tree
from minivae.distributed.slices import Slices
from minivae.distributed.world import AgreedError, World
from minivae.errors import UsageError, UsageWarning

N_PARAMETERS = mv.VAE(20, 3, (8,)).buffer.data.size
N, D = 203, 20  # N is no multiple of the batch, and the last batch has fewer rows than there are shards


def rows(seed=0, n=N):
    return np.random.default_rng(seed).random((n, D), np.float32)


def train(world, run=None, epochs=2, batch_size=50, X=None, model=None, optimizer=None, **options):
    """Train at this rank; return the digest of its parameters, its history without times, and the model."""
    vae = mv.VAE(D, 3, (8,), **{"seed": 1, **(model or {})})
    data = rows() if X is None else X
    history = vae.fit(
        data,
        epochs,
        batch_size,
        validation=data[:30],
        optimizer=None if optimizer is None else optimizer(),
        run=run,
        ranks=world,
        progress=False,
        binarize="dynamic",
        **options,
    )
    told = [{k: v for k, v in row.items() if k not in ("seconds", "rows_per_second")} for row in history.rows]
    return hashlib.sha256(vae.buffer.state).hexdigest()[:12], told, vae


def bits(results):
    """What all ranks agree on: (digest, history)."""
    for digest, told, _ in results[1:]:
        assert (digest, told) == results[0][:2]
    return results[0][:2]


SGD = functools.partial(mv.SGD, 0.1)

MODELS = {
    "elbo": {},
    "iwae": {"objective": "iwae", "samples": 2},
    "gaussian": {"likelihood": "gaussian", "samples": 2},
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_bits_do_not_depend_on_the_number_of_ranks(model, tmp_path):
    files = {}
    for size in (1, 2, 4):
        run = tmp_path / str(size)
        files[size] = bits(together(size, lambda world, run=run: train(world, run, model=model, clip=1.0), shards=4))
        files[size] += ((run / "model.safetensors").read_bytes(),)
    assert files[1] == files[2] == files[4]


@pytest.mark.parametrize("products", ("yes", "no"))
@pytest.mark.parametrize("name", ("elbo", "iwae"))
def test_bits_of_sparse_rows_do_not_depend_on_the_number_of_ranks(name, products, tmp_path, monkeypatch):
    """Probabilities that are mostly 0, drawn anew in each epoch; the first layer's products by non-zeros or without."""
    monkeypatch.setenv("MINIVAE_SPARSE", products)
    X = scipy.sparse.csr_array(np.where(rows() < 0.2, 5 * rows(), 0))
    files = {}
    for size in (1, 2, 4):
        run = tmp_path / str(size)

        def trained(world, run=run):
            found = train(world, run, X=X, model=MODELS[name], scale="none")
            assert found[2].backend.sparse == products
            return found

        files[size] = (*bits(together(size, trained, shards=4)), (run / "model.safetensors").read_bytes())
    assert files[1] == files[2] == files[4]
    dense = bits(together(2, lambda world: train(world, X=X.toarray(), model=MODELS[name], scale="none"), shards=4))
    if products == "no":  # the same rows, and the same products
        assert dense == files[1][:2]
    else:
        assert [row["elbo"] for row in dense[1]] == pytest.approx([row["elbo"] for row in files[1][1]], rel=1e-5)


OPTIMISERS = {
    "SGD": SGD,
    "momentum": functools.partial(mv.SGD, 0.1, 0.9, weight_decay=0.01),
    "Adagrad": mv.Adagrad,
    "RMSprop": functools.partial(mv.RMSprop, momentum=0.5),
    "AdamW": mv.AdamW,
}


@pytest.mark.parametrize("optimizer", OPTIMISERS.values(), ids=OPTIMISERS)
def test_a_rank_updates_its_own_slice_to_the_bits_of_one_process(optimizer):
    """Two trainings one after the other: at the end of the first all ranks have the moments of all slices."""
    found = {}
    for size in (1, 2, 4):
        results = together(size, lambda world: twice(world, optimizer()), shards=4)
        assert len({state for state, _ in results}) == 1
        for own in zip(*(sizes for _, sizes in results), strict=True):
            assert sum(own) == N_PARAMETERS and max(own) < N_PARAMETERS / size + 4 * 16
        found[size] = results[0][0]
    assert found[1] == found[2] == found[4]


def test_a_model_of_fewer_lines_than_shards_is_updated_by_one_rank():
    found = {size: together(size, lambda world: twice(world, mv.Adam()), shards=32) for size in (1, 2)}
    assert {state for results in found.values() for state, _ in results} == {found[1][0][0]}
    assert set(found[2][0][1]) == {0}


def twice(world, optimizer):
    """Two trainings of a model with the same optimiser → the bytes of all that it leaves, and the sizes of updates."""
    sizes, apply = [], optimizer._apply
    optimizer._apply = lambda P, *rest, **more: sizes.append(P.size) or apply(P, *rest, **more)
    vae, held = mv.VAE(D, 3, (8,), seed=1), []
    for _ in range(2):
        vae.fit(rows(), 1, 50, optimizer=optimizer, ranks=world, progress=False, binarize="dynamic", clip=0.5)
        held += [vae.buffer.state.tobytes(), *(moments.tobytes() for moments in optimizer.state.values())]
    return b"".join(held), sizes


def test_slices_are_those_of_the_units_that_depend_on_the_shards_alone():
    for n in (1, 100, 1000, 100_037):
        for S in (2, 6, 8, 96):
            for P in tree.group_counts(S):
                ranks = [Slices(n, S, P, rank) for rank in range(P)]
                assert [i for s in ranks for i in range(n)[s.own]] == [*range(n)]
                units = [(u.start, u.stop) for s in ranks for u in s.units]
                assert units == [(k * ranks[0].unit, (k + 1) * ranks[0].unit) for k in range(S)]
                assert ranks[0].unit % 16 == 0 and n - units[-1][1] < 16 * S


@pytest.mark.parametrize("order", ["rows", "blocks"])
def test_shards_make_the_step_of_a_whole_batch_up_to_rounding(order):
    """One epoch in one step, in float64: the batch has the same rows however it is cut. Its gradient is clipped."""
    options = {"epochs": 1, "batch_size": N, "model": {"dtype": "float64"}, "order": order, "optimizer": SGD}
    options["clip"] = 0.01
    one = train(None, **options)[2].buffer.data
    cut = together(3, lambda world: train(world, **options), shards=6)
    for _, _, vae in cut:
        assert_sums(vae.buffer.data, one, of="model")


def test_one_shard_is_a_training_without_ranks(tmp_path):
    alone = train(None, tmp_path / "alone")[:2]
    ranks = train(World(), tmp_path / "ranks")[:2]
    assert ranks == alone
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "ranks")]
    assert files[0] == files[1]


def test_blocks_read_each_row_once_an_epoch_and_a_rank_only_its_own():
    seen = together(2, lambda world: taken(world, "blocks"), shards=4)
    edges = [s * N // 4 for s in range(5)]
    assert sorted(seen[0]) == sorted([*range(edges[2])] * 2)  # two epochs
    assert sorted(seen[1]) == sorted([*range(edges[2], N)] * 2)


def test_rows_are_read_once_an_epoch_by_one_rank():
    seen = together(2, lambda world: taken(world, "rows"), shards=4)
    assert sorted(seen[0] + seen[1]) == sorted([*range(N)] * 2)
    assert set(seen[0]) & set(seen[1])  # other rows in each epoch


def taken(world, order):
    """The rows that a rank has taken for its training steps in two epochs."""
    from minivae.training.loop import Training
    from minivae.training.options import Options

    training = Training(
        mv.VAE(D, 3, (8,)), (rows() > 0.5) * 1.0, Options(2, 50, ranks=world, order=order, progress=False)
    )
    take, seen = training.batches.take, []
    training.batches.take = lambda index, *rest: seen.extend(index.tolist()) or take(index, *rest)
    training.run()
    return seen


def test_a_run_is_resumed_by_other_numbers_of_ranks_to_the_same_bytes(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    bits(together(4, lambda world: train(world, whole, epochs=3), shards=4))
    for size, epochs, shards in [(4, 1, 4), (2, 2, None), (1, 3, None)]:
        last = together(size, lambda w, e=epochs, s=epochs > 1: train(w, parts, epochs=e, resume=s), shards=shards)
    assert last[0][1] == bits(together(4, lambda world: train(world, epochs=3), shards=4))[1]
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_run_is_not_resumed_with_other_shards(tmp_path):
    together(2, lambda world: train(world, tmp_path, epochs=1))
    for size, shards in [(1, 1), (4, None), (4, 4)]:
        with pytest.raises(UsageError, match=r"shards"):
            together(size, lambda world: train(world, tmp_path, resume=True), shards=shards)
    with pytest.raises(UsageError, match=r"begun with shards 2, and now it is 1: give --shards 2"):
        train(None, tmp_path, resume=True)
    with pytest.raises(UsageError, match="2 shards cannot be dealt out to 4 ranks: start 2 or 1 of them"):
        together(4, lambda world: train(world, tmp_path, resume=True))


@pytest.mark.parametrize(
    "options, message",
    [({"free_bits": 0.1}, "mean KL"), ({"model": {"likelihood": "gaussian:optimal"}}, "σ² to the whole batch")],
)
def test_what_needs_the_whole_batch_is_refused_with_the_reason(options, message):
    with pytest.raises(AgreedError, match=message):
        together(2, lambda world: train(world, **options))


def test_one_rank_has_the_whole_batch():
    one, alone = train(World(), free_bits=0.1), train(None, free_bits=0.1)
    np.testing.assert_array_equal(one[2].buffer.data, alone[2].buffer.data)


def test_an_uneven_end_and_batches_smaller_than_the_shards_lose_no_row():
    X = rows(n=9)
    options = {"epochs": 2, "batch_size": 4, "X": X, "model": {"dtype": "float64"}, "beta": 0.5}
    options["optimizer"] = SGD  # Adam's first updates are nearly the signs of the gradients
    one = train(None, **options)
    cut = together(4, lambda world: train(world, **options), shards=8)
    bits(cut)
    assert_sums(cut[0][2].buffer.data, one[2].buffer.data, of="training")


def test_a_nan_is_seen_by_all_in_the_same_step_and_its_rank_is_named():
    def diverge(world):
        X = np.ones((40, D), np.float32)
        vae = mv.VAE(D, 3, (8,))
        if world.rank == 1:
            step, calls = vae.step, []

            def wrong(X, *rest, **more):
                terms = step(X, *rest, **more)
                calls.append(vae.passes)
                if calls.count(2) == 1 and vae.passes == 2:  # in the first shard of this rank; the second is sound
                    vae.decoder.layers[0].Y[...] = np.nan  # as an overflow would leave it
                    terms._nll[...] = np.nan
                return terms

            vae.step = wrong
        with pytest.raises(mv.Diverged) as caught:
            vae.fit(X, 3, 20, ranks=world, progress=False)
        return str(caught.value)

    first, second = together(2, diverge, shards=4)
    assert first == second
    assert "diverged at step 3 (epoch 2)" in first
    assert "is: decoder.0 output (rank 1, host1)" in first


def test_a_signal_at_one_rank_stops_all_at_the_same_step_and_saves(tmp_path):
    from minivae.training.loop import Training
    from minivae.training.options import Options

    def run(world, folder, stop, resume=False):
        vae = mv.VAE(D, 3, (8,), likelihood="gaussian", init="normal:2", seed=1)
        training = Training(vae, rows(), Options(2, 50, run=folder, resume=resume, ranks=world, progress=False))
        look = training._look

        def asked(X, steps):
            if world.rank == 1 and training.at.total_steps == stop:
                training.asked.append(signal.SIGTERM)  # as `signals.noting` does
            look(X, steps)

        training._look = asked
        if stop is None:
            return training.run()["clamped"]
        with pytest.raises(SystemExit) as caught:
            training.run()
        return training.at.total_steps, caught.value.status

    assert together(2, lambda world: run(world, tmp_path / "cut", 3)) == [(3, 143), (3, 143)]
    resumed = together(2, lambda world: run(world, tmp_path / "cut", None, resume=True))
    assert resumed == together(2, lambda world: run(world, tmp_path / "quiet", None))
    assert resumed[0][0] > 0  # clamped before and after the stop, at both ranks
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("cut", "quiet")]
    assert files[0] == files[1]


def test_ranks_whose_parameters_differ_are_named_at_the_save(tmp_path):
    def drift(world):
        def nudge(row):
            if world.rank == 1:
                vae.buffer.data[0] += 1e-3

        vae = mv.VAE(D, 3, (8,), seed=1)
        vae.fit((rows() > 0.5) * 1.0, 2, 50, run=tmp_path, ranks=world, progress=False, callback=nudge, save_seconds=0)

    with pytest.raises(AgreedError, match=r"rank 1 \(host1\) has \w+ as the digest of its parameters after step 5"):
        together(2, drift)


def test_ranks_that_begin_with_other_parameters_are_refused():
    def fit(world):
        vae = mv.VAE(D, 3, (8,))
        vae.buffer.data[0] = world.rank
        vae.fit(rows(), 1, binarize="dynamic", ranks=world, progress=False)

    with pytest.raises(AgreedError, match=r"rank 1 \(host1\) has \w+ as its model, data and options"):
        together(2, fit)


def test_ranks_that_begin_with_other_models_are_refused():
    with pytest.raises(AgreedError, match=r"rank 1 \(host1\) has \w+ as its model, data and options"):
        together(2, lambda world: train(world, model={"seed": world.rank}))


def test_a_full_disk_at_rank_0_stops_all(tmp_path, monkeypatch):
    from minivae.training import checkpoint

    write, written = checkpoint.write, []

    def full(*arguments):
        if written:
            raise OSError(28, "No space left on device", "model.safetensors")
        written.append(write(*arguments))

    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(AgreedError, match=r"^model.safetensors: No space left"):
        together(2, lambda world: train(world, tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["history.csv", "model.safetensors"]


class Counted(np.ndarray):
    """Rows that remember which blocks of them were looked at."""

    def __getitem__(self, key):
        if isinstance(key, slice):
            self.seen.append((key.start, min(key.stop, len(self))))
        return np.asarray(super().__getitem__(key))


def test_values_are_checked_once_by_the_ranks_together(monkeypatch):
    from minivae.training import batches

    monkeypatch.setattr(batches, "CHECK_ROWS", 20)
    monkeypatch.setattr(batches.Batches, "_sample", lambda self: "")  # the few rows that all ranks look at
    X = rows()
    X[:, 0] = 0.25
    alone = batches.Batches(mv.VAE(D, 3, (8,), likelihood="gaussian"), X)

    def check(world):
        own = X.view(Counted)
        own.seen = []
        found = batches.Batches(mv.VAE(D, 3, (8,), likelihood="gaussian"), own, ranks=world)
        return own.seen, (found.range, found.density, found.constant.tolist())

    for size in (1, 3, 20):  # 20: some have no block
        results = together(size, check)
        starts = [start for seen, _ in results for start, stop in seen if stop - start <= 20]
        assert sorted({*starts}) == [*range(0, N, 20)]
        bounds = [(seen[0][0], seen[-1][1]) for seen, _ in results if seen]
        assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
        expected = (alone.range, alone.density, alone.constant.tolist())
        assert [facts for _, facts in results] == [expected] * size


def test_a_nan_in_the_rows_of_one_rank_is_told_by_all():
    def fit(world):
        X = rows(n=9000)
        X[8500, 3] = np.nan
        mv.VAE(D, 3, (8,)).fit(X, 1, ranks=world, progress=False)

    with pytest.raises(AgreedError, match=r"^rank 1 \(host1\): X.*row 8500, column 3"):
        together(2, fit)


def test_clamped_outputs_of_all_ranks_are_counted(tmp_path):
    model = {"likelihood": "gaussian", "init": "normal:2"}
    counts = [
        [row["clamped"] for row in bits(together(size, lambda w: train(w, model=model), shards=4))[1]]
        for size in (1, 2)
    ]
    assert counts[0] == counts[1]
    assert counts[0][0] > 0


def test_shards_on_a_device_make_the_steps_of_the_cpu(monkeypatch):
    """By the stand-in for CuPy: gradients cross by the host, and no loss is waited for before it is looked at."""
    import standin

    standin.install(monkeypatch, nccl=False)

    def fit(world, backend, kernels="reference"):
        vae = mv.VAE(D, 3, (8,), backend=backend, kernels=kernels, dtype="float64", seed=1)
        history = vae.fit(rows()[:70], 2, 40, binarize="dynamic", ranks=world, progress=False, clip=1.0)
        return vae.backend.to_host(vae.buffer.data).copy(), history["elbo"]

    with pytest.warns(UsageWarning, match="gradients cross by the host"):
        device = together(2, lambda world: fit(world, "cupy"), shards=4)
    assert device[0][0].tobytes() == device[1][0].tobytes()
    parameters, elbo = together(1, lambda world: fit(world, "cupy"), shards=4)[0]
    assert parameters.tobytes() == device[0][0].tobytes() and elbo == device[0][1]
    parameters, elbo = together(2, lambda world: fit(world, "numpy"), shards=4)[0]
    assert_sums(device[0][0], parameters, of="training")
    assert_sums(device[0][1], elbo, of="training")


# What one rank alone may have otherwise, by mistake → what is said of it.
OTHERWISE = {
    "X": "the digest of some rows of its X",
    "permuted": "the digest of some rows of its X",
    "sparse": "the digest of some rows of its X",
    "held out": "the digest of some rows of its validation",
    "weights": "the digest of some rows of its X",
    "validation": "nothing as its validation",
    "shape": r"\(300, 9\) as the shape of its X",
    "run": "nothing as its run",
    "resume": "True as its resume",
    "beta": "as its beta",
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_one_rank_alone_has_otherwise_is_named_before_the_first_step(what, tmp_path):
    """As rows drawn without a seed, or files that a script names on rank 0 alone."""
    rows = np.random.default_rng(0).random((310, 9)).astype(np.float32)

    def train(ranks):
        other, X, options = ranks.rank == 1, rows, {"run": tmp_path / "run", "validation": rows[:60]}
        if what == "X":
            X = np.random.default_rng(ranks.rank).random((310, 9)).astype(np.float32)
        elif what == "permuted":
            X = rows[np.random.default_rng(ranks.rank).permutation(310)]
        elif what == "sparse":
            X = scipy.sparse.csr_array(np.roll(rows * (rows < 0.2), ranks.rank, axis=0))
        elif what == "held out":
            options["validation"] = rows[ranks.rank :][:60]
        elif what == "weights":
            options["weights"] = np.arange(310) % (3 + ranks.rank)
        elif other:
            X = rows[:300] if what == "shape" else X
            changes = {"validation": None, "run": None, "resume": True, "beta": 0.5}
            options |= {what: changes[what]} if what in changes else {}
        mv.VAE(9, 2, (4,), backend="numpy").fit(X, 1, 64, ranks=ranks, progress=False, **options)

    with pytest.raises(AgreedError, match=rf"rank 1 \(host1\) has .*{OTHERWISE[what]}"):
        together(2, train)
    assert not list(tmp_path.iterdir())
