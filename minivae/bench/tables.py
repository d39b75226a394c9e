"""tables: format figures as tables of text, for the terminal and for the page. Nothing is measured here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..console import NOTHING as GAP
from ..console import measure
from . import scaling
from .figures import COUNTS, FLOORS, LIBRARY, OURS, PEERS, Measured, intervals, mean_interval, mean_ratio, ratios

if TYPE_CHECKING:
    from .figures import Figures

ORDER = (*OURS, "reference", "torch", "torch-default", "torch.compile", "jax", *FLOORS, *LIBRARY, *COUNTS)


@dataclass
class Table:
    """`rows` are (label, a text for each column); `ratios` likewise, shown separately; `note` is printed below."""

    title: str
    corner: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    ratios: list[tuple[str, list[str]]] = field(default_factory=list)
    note: str = ""


def tables(figures: Figures) -> list[Table]:
    """Return the tables of the figures, in reading order; those without measurements are left out."""
    made = [
        _steps(figures),
        _counts(figures),
        _losses(figures),
        _whole(figures),
        _memory(figures),
        _sums(figures),
        _growth(figures),
    ]
    return [table for table in made if table is not None and table.columns]


def machine_lines(figures: Figures) -> list[str]:
    """Describe the machine of the measurements in lines."""
    m = figures.machine
    lines = [
        f"{m['cpu']}, {m['processors']} processors{_listed(m['vectors'])}{_listed(m['caches'].items())}",
        f"{m['memory_bytes'] / 2**30:.0f} GiB of memory, {m['system']}" if m["memory_bytes"] else m["system"],
        ", ".join(f"{name} {version}" for name, version in m["versions"].items()),
    ]
    for cell in figures.of("rate"):
        facts = {name: result.facts for name, result in cell.results.items()}
        copy, threads = cell.median("copy"), cell.cell.case["threads"]
        if copy:
            lines.append(f"copies {facts['copy']['bytes'] / copy / 1e9:.1f} GB/s (read and written), {threads} threads")
        for name in ("gemm", "gemm-mkl"):
            if t := cell.median(name):
                lines.append(f"multiplies {facts[name]['flops'] / t / 1e9:.0f} GFLOP/s on {facts[name]['blas']}")
    if not m["pinned"]:
        lines.append("this system pins no process to cores: the number of threads was set, and nothing more")
    return lines


def left_out(figures: Figures) -> dict[str, str]:
    """Return {contender: why it did not race}."""
    return {r.name: r.left_out for cell in figures.cells for r in cell.results.values() if r.left_out}


def _steps(figures: Figures) -> Table | None:
    cells = figures.of("step")
    if not cells:
        return None
    case = cells[0].cell.case
    table = Table(
        f"A training step of {'-'.join(map(str, case['widths']))} on {case['data']}, ms",
        "batch",
        [str(cell.cell.case["batch"]) for cell in cells] + ["geometric mean"],
        [(name, [*texts, ""]) for name, texts in _times(cells, 1e3)],
        note=f"float32, ReLU, Bernoulli, Adam; {case['threads']} threads each. A step: ε, forward, backward, update, "
        "on the next binarised batch. torch flushes subnormals to zero, torch-default does not. floor: the step's "
        "matrix products alone. best peer: the fastest of torch, torch.compile and jax. Below a ratio stands its 95 % "
        "interval over the turns; a ratio with a ? is undecided: the interval holds 1.",
    )
    for name, texts in _ratios(cells, [*(f"best peer / {o}" for o in OURS), *_over_floor()]):
        table.ratios.append((name, [*texts, _times_as_often(mean_ratio(cells, name), mean_interval(cells, name))]))
    return table


def _counts(figures: Figures) -> Table | None:
    cells = figures.of("counts")
    return Table(
        "A training step on rows of counts that are mostly 0, ms",
        "likelihood" if not cells else f"{cells[0].cell.case['columns']:,} columns",
        [cell.cell.case["likelihood"] for cell in cells],
        _times(cells, 1e3),
        _ratios(cells, [f"{name} / minivae" for name in (COUNTS[0], "torch", *COUNTS[1:])]),
        "Batches of 128 from CSR, 3 % of the counts not 0, hidden 128, latent 10. minivae-dense: without products by "
        "the non-zeros. torch makes a batch dense, torch-csr multiplies by it as CSR, torch-bag sums by EmbeddingBag.",
    )


def _losses(figures: Figures) -> Table | None:
    cells = figures.of("kernel")
    table = Table(
        "Loss and gradient of a likelihood, ms",
        "rows × 784" if not cells else f"rows × {cells[0].cell.case['features']}",
        [f"{cell.cell.case['likelihood']}\n{cell.cell.case['rows']}" for cell in cells],
        _times(cells, 1e3),
        _ratios(cells, [*(f"{name} / minivae" for name in ("reference", *PEERS)), "minivae / floor"]),
        "minivae: one fused pass over memory; reference: plain NumPy. floor: as many bytes copied, on all threads.",
    )
    table.rows.append(("minivae, GB/s", [_gigabytes(cell) for cell in cells]))
    return table


def _whole(figures: Figures) -> Table | None:
    cells = figures.of("epoch") + figures.of("evaluate")
    columns, notes = [], []
    for cell in cells:
        case = cell.cell.case
        widths = "-".join(map(str, case["widths"]))
        if case["kind"] == "epoch":
            columns.append("an epoch")
            notes.append(
                f"An epoch: {widths}, {case['rows']:,} rows ({case['data']}), batch {case['batch']}, shuffled, "
                "binarised anew; PyTorch with randperm, indexing and bernoulli."
            )
        else:
            columns.append("ln p(x)")
            notes.append(
                f"ln p(x): {widths}, {case['rows']} rows, importance sampling with K = {case['samples']}, streamed in "
                "tiles; floor: the decoder's matrix products alone."
            )
    ratios = _ratios(cells, [*(f"best peer / {ours}" for ours in OURS), *_over_floor()])
    return Table("An epoch, and an evaluation, s", "", columns, _times(cells, 1), ratios, " ".join(notes))


def _memory(figures: Figures) -> Table | None:
    cells = [cell for kind in ("step", "epoch", "evaluate") for cell in figures.of(kind)]
    columns = [f"step\n{c['batch']}" if (c := cell.cell.case)["kind"] == "step" else c["kind"] for cell in cells]
    rows = []
    for name in ORDER:
        if name not in FLOORS and any(cell.median(name) for cell in cells):
            peaks = [result.peak_bytes if (result := cell.results.get(name)) else None for cell in cells]
            rows.append((name, [f"{peak / 1e6:.0f}" if peak else GAP for peak in peaks]))
    note = "Of the whole process while it works, the rows in memory (float32) included."
    return Table("Peak memory, MB", "", columns, rows, note=note)


def _sums(figures: Figures) -> Table | None:
    cells = figures.of("sum")
    columns, about = [], set()
    for cell in cells:
        columns.append(f"{cell.cell.case['ranks']} ranks\n{cell.cell.case['numbers'] / 1e6:g} M")
        about |= {str(result.facts["mpi"]) for result in cell.results.values() if "mpi" in result.facts}
    note = (
        "minivae adds up in an order that is fixed. mpi: Allreduce in place; mpi-in-two: Reduce_scatter and Allgather."
    )
    ratios = _ratios(cells, [f"{name} / minivae" for name in LIBRARY])
    return Table(
        "A sum of float32 over ranks of one machine, ms",
        "",
        columns,
        _times(cells, 1e3),
        ratios,
        f"{note} {', '.join(sorted(about))}.",
    )


def _growth(figures: Figures) -> Table | None:
    rows = []
    for cell in figures.of("scaling"):
        axis = cell.cell.case["axis"]
        values, seconds = growth(cell)
        texts = [" ".join(map(str, values)), " ".join(measure(1e3 * t) for t in seconds)]
        rows.append((f"{axis}, {scaling.WHAT[axis]}", [*texts, f"{scaling.exponent(values, seconds):.2f}"]))
    base = ", ".join(f"{name} = {value}" for name, value in scaling.BASE.items())
    note = f"minivae's step; what does not change is {base}. The exponent is fitted through the last {scaling.FITTED}."
    return Table("How a step grows", "", ["values", "ms", "exponent"] if rows else [], rows, note=note)


def growth(cell: Measured) -> tuple[list[int], list[float]]:
    """Return the values of an axis, and the seconds of a step at each."""
    return [int(name) for name in cell.results], [result.median for result in cell.results.values()]


def _times(cells: list[Measured], factor: float) -> list[tuple[str, list[str]]]:
    rows = []
    for name in ORDER:
        medians = [cell.median(name) for cell in cells]
        if any(medians):
            rows.append((name, [GAP if t is None else measure(factor * t) for t in medians]))
    return rows


def _ratios(cells: list[Measured], names: list[str]) -> list[tuple[str, list[str]]]:
    found = [(ratios(cell), intervals(cell)) for cell in cells]
    return [
        (name, [_times_as_often(ratio.get(name), ends.get(name)) for ratio, ends in found])
        for name in names
        if any(name in ratio for ratio, _ in found)
    ]


def _gigabytes(cell: Measured) -> str:
    mine = cell.median("minivae")
    return measure(cell.results["minivae"].facts["bytes"] / mine / 1e9) if mine else GAP


def _over_floor() -> list[str]:
    return [f"{ours} / {floor}" for ours, floor in zip(OURS, FLOORS, strict=True)]


def _times_as_often(ratio: float | None, ends: tuple[float, float] | None) -> str:
    """Format a ratio, with a ? if it is undecided which is quicker, and below it its interval."""
    if ratio is None or ends is None:
        return GAP if ratio is None else f"{ratio:.2f}"
    undecided = "?" * (ends[0] <= 1 <= ends[1])
    return f"{ratio:.2f}{undecided}\n{ends[0]:.2f}–{ends[1]:.2f}"


def _listed(things: Any) -> str:
    words = [thing if isinstance(thing, str) else " ".join(thing) for thing in things]
    return "".join(f", {word}" for word in words)
