"""curves: loss, NLL and KL against epochs, of one run or of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import printable
from .draw import BLUE, GREY, ORANGE, TEN, WHOLE, Target, finished, label, new_figure

if TYPE_CHECKING:
    from ..training.history import History

FEW = 10  # with fewer epochs than this, dots are drawn on the line
PANELS = (("elbo", "total  −ELBO (β = 1)"), ("nll", "reconstruction  NLL"), ("kl", "KL"))


def loss(history: History, path: Target = None) -> Any:
    """Draw total, NLL and KL against epochs: the total measures progress, its parts trade off against each other.

    Where the first epochs, or a spike, would flatten the later ones, an inset shows these larger.
    """
    curves = {"training": (BLUE, history, "")}
    if history.rows and history.rows[-1].get("val_elbo", "") != "":
        curves["validation"] = (ORANGE, history, "val_")
    figure, panels = _panels(curves)
    for axes in panels:
        if history.best_epoch is not None:
            text = f"best epoch on validation: {history.best_epoch}"
            axes.axvline(history.best_epoch, color=GREY, linewidth=1, linestyle=":", label=text)
        for k, (first, last) in enumerate(_runs(history["epoch"], [beta < 1 for beta in history["beta"]])):
            text = "" if k else "β < 1: the optimised loss is not a bound"
            axes.axvspan(first - 0.5, last + 0.5, color=GREY, alpha=0.15, linewidth=0, label=text)
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper left", ncols=2)
    return finished(figure, path)


def compare(histories: Mapping[str, History], path: Target = None) -> Any:
    """Draw the curves of several runs, by name: those of the validation rows where a run has them."""
    curves = {}
    for k, (name, history) in enumerate(histories.items()):
        held = history.rows[-1].get("val_elbo", "") != ""
        text = label(printable(name)) + (", validation" if held else ", training")
        curves[text] = (TEN[k % len(TEN)][0], history, "val_" if held else "")
    figure, panels = _panels(curves)
    legend = figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper left", ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return finished(figure, path)


def _panels(curves: dict[str, tuple[str, History, str]]) -> tuple[Any, Any]:
    """Three panels of the curves, label → (colour, history, prefix of the columns)."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7.2, 8.4)
    panels = figure.subplots(3, 1, sharex=True)
    epochs = {text: history["epoch"] for text, (_, history, _) in curves.items()}
    last = max(own[-1] for own in epochs.values())
    for axes, (name, title) in zip(panels, PANELS, strict=True):
        sign = -1 if name == "elbo" else 1
        values = {text: sign * np.array(history[prefix + name], float) for text, (_, history, prefix) in curves.items()}
        for text, (colour, _, _) in curves.items():
            dots = "o" if len(epochs[text]) < FEW else ""
            axes.plot(epochs[text], values[text], color=colour, label=text, marker=dots, markersize=4)
        axes.set_ylabel("nats a row")
        axes.set_title(title, loc="left", fontsize=10)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(alpha=0.25)
        axes.set_ylim(*_frame(_least([*values.values()]), _greatest([*values.values()])))
        if (frame := _limits(list(values.values()))) is not None:
            _inset(axes, frame, {text: (curves[text][0], epochs[text], values[text]) for text in curves})
    first = min(own[0] for own in epochs.values())
    pad = max(0.5, 0.02 * (last - first))
    panels[-1].set_xlim(first - pad, last + pad)
    panels[-1].xaxis.set_major_locator(MaxNLocator(**WHOLE))
    panels[-1].set_xlabel("epoch")
    return figure, panels


def _least(curves: list[np.ndarray]) -> float:
    return float(min(values.min() for values in curves))


def _greatest(curves: list[np.ndarray]) -> float:
    return float(max(values.max() for values in curves))


def _frame(low: float, high: float) -> tuple[float, float]:
    """Limits with a margin; one value has a frame around it."""
    pad = 0.05 * (high - low) or max(0.05 * abs(low), 0.01)
    return low - pad, high + pad


def _inset(axes: Any, frame: tuple[float, float], curves: dict[str, tuple[str, list[int], np.ndarray]]) -> None:
    """Draw the later epochs again, larger, in the half of the panel that the greatest value leaves free."""
    from matplotlib.ticker import MaxNLocator

    values = max(
        (values for _, _, values in curves.values()), key=lambda values: np.abs(values - np.median(values)).max()
    )
    peak = int(np.argmax(np.abs(values - np.median(values))))
    below = values[peak] < np.median(values)  # then the curves run along the top
    left = 0.36 if peak < len(values) / 2 else 0.08
    inset = axes.inset_axes((left, 0.13 if below else 0.33, 0.6, 0.56))
    for colour, epochs, own in curves.values():
        inset.plot(epochs, own, color=colour)
    quarter = max(1, len(values) // 4)
    epochs = next(iter(curves.values()))[1]
    inset.set_xlim(epochs[min(quarter, len(epochs) - 1)], max(own[-1] for _, own, _ in curves.values()))
    inset.set_ylim(*_frame(*frame))
    inset.set_title("the later epochs, larger", loc="left", fontsize=8, color=GREY)
    inset.xaxis.set_major_locator(MaxNLocator(5, **WHOLE))
    inset.ticklabel_format(axis="y", useOffset=False)
    inset.tick_params(labelsize=8)
    inset.grid(alpha=0.25)


def _runs(epochs: list[int], flags: list[bool]) -> list[tuple[int, int]]:
    """Return (first, last) of each sequence of flagged epochs."""
    runs: list[tuple[int, int]] = []
    for epoch, flag in zip(epochs, flags, strict=True):
        if flag and runs and runs[-1][1] == epoch - 1:
            runs[-1] = (runs[-1][0], epoch)
        elif flag:
            runs.append((epoch, epoch))
    return runs


def _limits(curves: list[np.ndarray]) -> tuple[float, float] | None:
    """The range of the later epochs, where all values together would flatten them; else None.

    The later epochs are those after the first quarter; their spread is the distance of their quantiles of 5 and 95 %,
    at least 0.1 nats. The range extends three spreads beyond those quantiles, but not beyond the values. It is shown
    if all values would need more than 1.5 times its height; fewer than five epochs never are.
    """
    low, high = _least(curves), _greatest(curves)
    if max(map(len, curves)) < 5:
        return None
    later = np.concatenate([values[max(1, len(values) // 4) :] for values in curves])
    bottom, top = np.quantile(later, [0.05, 0.95])
    reach = 3 * max(float(top - bottom), 0.1)
    frame = max(low, float(bottom) - reach), min(high, float(top) + reach)
    if high - low <= 1.5 * (frame[1] - frame[0]):
        return None
    return max(float(later.min()), frame[0]), min(float(later.max()), frame[1])
