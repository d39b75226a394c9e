"""The public names, written out: none of them may go or change its place in the arguments."""

import inspect

import pytest

import minivae as mv

NAMES = {
    "__version__", "VAE", "Terms", "Backend", "UsageError", "UsageWarning", "LIKELIHOODS", "SGD", "Adagrad", "RMSprop",
    "Adam", "AdamW", "Schedule", "Beta", "History", "Dataset", "Scale", "load", "choose_likelihood", "explain", "bayes",
}  # fmt: skip

ARGUMENTS = {  # in the order in which they may be given by place; others may follow
    "VAE": "features latent_dim hidden activation likelihood objective samples backend kernels dtype seed init",
    "VAE.fit": "self X epochs batch_size optimizer validation beta binarize patience clip run callback",
    "VAE.save": "self path",
    "VAE.load": "path backend kernels dtype which",
    "VAE.objective": "self X eps beta free_bits",
    "VAE.objective_and_grad": "self X eps beta free_bits",
    "VAE.train_step": "self X optimizer rows eps beta free_bits clip pass_",
    "VAE.trace": "self X eps beta free_bits",
    "VAE.encode": "self X device",
    "VAE.decode": "self Z draw device seed",
    "VAE.reconstruct": "self X device",
    "VAE.sample": "self n seed draw device",
    "VAE.log_likelihood": "self X samples rows eps",
    "VAE.config": "self",
    "Backend": "name kernels dtype gemm tf32",
    "Adam": "lr",
    "Schedule": "shape warmup milestones gamma",
    "Beta": "beta warmup cycle",
    "Scale": "kind shift factor",
    "choose_likelihood": "X",
}
FIT_BY_NAME = {
    "schedule", "free_bits", "scale", "progress", "rows", "validation_rows", "resume", "save_seconds",
}  # fmt: skip
MODEL_ATTRIBUTES = {"parameters", "gradients", "seed", "backend", "likelihood", "features", "latent_dim", "hidden"}
TERMS = {"loss", "elbo", "nll", "kl", "nll_rows", "kl_rows", "kl_dims", "copy", "sums"}
BAYES = {
    "Estimate", "by_quadrature", "by_sampling", "weighted_again", "two_ways", "sampling_rate", "kl_discrete",
    "kl_sampled", "kl_gaussian", "bhattacharyya_discrete", "bhattacharyya_gaussian", "different_supports",
    "DiscreteJoint", "joint_identity", "no_drop_in", "discrete_floor", "density_loss", "antagonists", "exact_posterior",
    "encoder_gaps", "small_encoder_gaps", "two_points_optimum", "two_points_by_vae", "LinearGaussian", "PPCA",
    "against_ppca", "fit_linear_vae", "linear_vae_is_ppca", "balance",
}  # fmt: skip

COMMANDS = {
    "train": "activation antithetic backend batch-size beta beta-cycle binarize clip dtype epochs force free-bits "
    "hidden init kernels kl-warmup latent likelihood lr momentum objective optimizer out patience resume samples scale "
    "schedule seed tf32 validation weight-decay",
    "evaluate": "ais backend bidirectional chains force importance json kernels per-row report split n",
    "trace": "backend json kernels split n",
    "sample": "backend draw force kernels out seed n o",
    "reconstruct": "backend force kernels out split n o",
    "encode": "backend force kernels out split o",
    "info": "json",
    "score": "backend columns-top contamination force importance json kernels out split threshold o",
    "gradcheck": "all backend directions float32 force json kernels list max-entries mutate output parity seed seeds "
    "shapes sweep tolerance worst o",
    "explain": "json",
    "verify": "json list only",
    "bench": "force json out peers quick resume threads o",
}
VARIABLES = {"MINIVAE_BACKEND", "MINIVAE_DATA", "MINIVAE_GEMM", "MINIVAE_SAVE_SECONDS", "MINIVAE_THREADS"}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_and_no_option_is_gone(name):
    import typer

    from minivae.cli.app import app

    command = typer.main.get_command(app).commands[name]
    found = {flag.lstrip("-") for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    assert set(COMMANDS[name].split()) - found == set()


def test_no_variable_is_gone():
    from minivae.environment import READ

    assert set(READ) >= VARIABLES


def test_no_public_name_is_gone():
    assert set(mv.__all__) >= NAMES
    assert all(hasattr(mv, name) for name in NAMES)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_stay_where_they_were(name):
    found: object = mv
    for part in name.split("."):
        found = getattr(found, part)
    expected = ARGUMENTS[name].split()
    assert list(inspect.signature(found).parameters)[: len(expected)] == expected


def test_fit_takes_the_options_that_it_took_by_name():
    assert set(inspect.signature(mv.VAE.fit).parameters) >= FIT_BY_NAME


def test_a_model_and_its_terms_have_the_attributes_they_had():
    vae = mv.VAE(3, 2, (), backend="numpy")
    assert [name for name in MODEL_ATTRIBUTES if not hasattr(vae, name)] == []
    assert [name for name in TERMS if not hasattr(mv.Terms, name)] == []
    iwae = mv.VAE(3, 2, (), objective="iwae", samples=2, backend="numpy").objective(vae.decode(vae.sample(4)[:, :2]))
    assert iwae.log_w.shape == (2, 4) and iwae.bound_rows.shape == (4,)


def test_the_names_of_the_parameters_stay():
    vae = mv.VAE(3, 2, (4,), likelihood="gaussian:shared", backend="numpy")
    layers = [f"{half}.{number}.{tensor}" for half in ("encoder", "decoder") for number in (0, 1) for tensor in "Wb"]
    assert list(vae.parameters) == list(vae.gradients) == [*layers, "likelihood.logvar"]


def test_the_modules_that_users_import_are_there():
    import minivae.bayes
    import minivae.testing

    assert set(minivae.bayes.__all__) >= BAYES
    assert [name for name in BAYES if not callable(getattr(minivae.bayes, name))] == []
    named = inspect.signature(minivae.testing.assert_gradients).parameters
    assert list(named)[:4] == ["fn", "inputs", "tolerance", "seeds"]
