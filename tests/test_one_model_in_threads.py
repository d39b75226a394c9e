"""One model called from several Python threads at once, as a web server does: each call gives what it gives alone.

Longer, under faulthandler:  python -X faulthandler -c 'import test_one_model_in_threads as t; print(t.stress(8, 2000))'
"""

import threading

import numpy as np
import pytest

import minivae as mv
from minivae.evaluation.bounds import evaluate

D, L = 12, 3
ROWS = (1, 2, 7, 40, 300, 1500)  # a workspace that grows and is sliced; beyond one block of a stream


def model(**more):
    return mv.VAE(D, L, (16,), likelihood="gaussian", backend="numpy", seed=1, **more)


CALLS = {
    "encode": lambda vae, X: np.hstack(vae.encode(X)),
    "decode": lambda vae, X: vae.decode(X[:, :L]),
    "draw": lambda vae, X: vae.decode(X[:, :L], draw=True, seed=5),
    "reconstruct": lambda vae, X: vae.reconstruct(X),
    "sample": lambda vae, X: vae.sample(len(X), seed=4),
    "objective": lambda vae, X: vae.objective(X).nll_rows,
    "objective_and_grad": lambda vae, X: vae.objective_and_grad(X).kl_rows,
    "log_likelihood": lambda vae, X: vae.log_likelihood(X[:40], 5)[0],
    "evaluate": lambda vae, X: np.array([evaluate(vae, X[:40]).elbo]),
}


def stress(threads, calls):
    """The calls, of `calls` of mixed kinds and sizes in each thread, whose results are not those of the call alone."""
    rng = np.random.default_rng(0)
    vae, data = model(), [rng.normal(size=(rows, D)).astype(np.float32) for rows in ROWS]
    alone = {(name, k): call(vae, X) for name, call in CALLS.items() for k, X in enumerate(data)}
    wrong, start = [], threading.Barrier(threads)

    def work(number):
        mine = np.random.default_rng(number)
        start.wait()
        for _ in range(calls):
            name, k = list(CALLS)[mine.integers(len(CALLS))], int(mine.integers(len(ROWS)))
            try:
                if not np.array_equal(CALLS[name](vae, data[k]), alone[name, k]):
                    wrong.append((name, ROWS[k]))
            except Exception as error:  # whatever a torn workspace raises
                wrong.append((name, ROWS[k], repr(error)))

    crew = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    return wrong


def test_calls_of_one_model_from_many_threads_give_what_each_gives_alone():
    assert stress(threads=8, calls=40) == []


@pytest.mark.parametrize("call", ["fit", "train_step"])
def test_trainings_of_one_model_in_threads_follow_one_another(call):
    """Each is done whole: the parameters after four of them are those after four in a row, in whatever order."""
    X = np.random.default_rng(3).normal(size=(60, D)).astype(np.float32)

    def train(vae):
        if call == "fit":
            vae.fit(X, 2, 16, mv.SGD(0.01), progress=False)
        else:
            vae.train_step(X, mv.SGD(0.01))

    together, apart = model(), model()
    crew = [threading.Thread(target=train, args=(together,)) for _ in range(4)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    for _ in crew:
        train(apart)
    np.testing.assert_array_equal(together.buffer.data, apart.buffer.data)
    assert together.passes == apart.passes
