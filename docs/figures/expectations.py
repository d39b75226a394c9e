"""The error of a sampled expectation against n, and what weighing a sample again converges to."""

from _book import BLUE, GREY, ORANGE, axes

from minivae import bayes


def draw(full):
    figure, (left, right) = axes(2)
    sizes = (16, 64, 256, 1024, 4096, 16384)
    rate = bayes.sampling_rate(sizes=sizes, repeats=4000 if full else 400)
    left.loglog(rate.sizes, rate.errors, "o", color=BLUE, label="measured")
    left.loglog(sizes, [n**-0.5 for n in sizes], color=GREY, lw=1, label="$n^{-1/2}$")
    left.set(xlabel="samples n", ylabel="root mean square error", title="mean of an exponential: 1 % costs 10,000")
    left.legend()
    counts = (10, 100, 1000, 10_000, 100_000)
    ways = [bayes.two_ways(samples=n) for n in counts]
    right.semilogx(counts, [w.sampled.value for w in ways], "o-", color=BLUE, label="eq. 3")
    right.semilogx(counts, [w.weighted_again.value for w in ways], "s-", color=ORANGE, label="weighed by p again")
    for value in (ways[0].exact, ways[0].weighted_again_limit):
        right.axhline(value, color=GREY, lw=0.8)
    right.set(xlabel="samples n", title="E[x] = 1.5, and the mistake")
    right.legend()
    return figure
