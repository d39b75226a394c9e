"""The least loss on two points against D, split into the floor and the two gaps."""

from _book import BLUE, GREY, ORANGE, axes

from minivae import bayes


def draw(full):
    sizes = (1, 2, 4, 8, 16, 32, 64) if full else (1, 2, 8, 64)
    found = [bayes.two_points_optimum(features) for features in sizes]
    floor = [f.floor for f in found]
    middle = [f.floor + f.prior_gap for f in found]
    figure, ax = axes(width=6)
    ax.fill_between(sizes, 0, floor, color=GREY, alpha=0.3, lw=0, label="ln 2: the data's entropy")
    ax.fill_between(sizes, floor, middle, color=BLUE, alpha=0.5, lw=0, label="the mixture is not the prior")
    ax.fill_between(sizes, middle, [f.loss for f in found], color=ORANGE, alpha=0.6, lw=0, label="the overlap loses")
    ax.plot(sizes, [f.loss for f in found], "o-", color="black", lw=1, label="best loss")
    ax.set(xscale="log", xlabel="features D", ylabel="nats", ylim=(0, 1.9), xticks=sizes, xticklabels=sizes)
    ax.minorticks_off()
    ax.legend(ncols=2, loc="upper left")
    return figure
