"""Figures for lessons and reports. Every function draws one figure of a fixed size, shows it and returns
None; only `sliders` returns something, a figure that follows the reader's hand.

Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart, and no line or bar is told
from another by its colour alone: line style, marker or hatching differ as well, so that grey print is
readable.

    >>> plots.images(x[:4], y=y[:4], logits=predict_logits(net, x[:4]))
    >>> plots.curves({"noise": curve(...), "PGD-40": curve(...)}, styles={"PGD-40": "dashed"})

To keep a figure, call `plt.savefig` after the function, in a script that runs without a display.
"""

import base64
import contextvars
import dataclasses
import functools
import html
import io
import itertools
from collections.abc import Mapping

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import PercentFormatter

from advlib._checks import check_labels, describe
from advlib.robustness import CLEAN, WORST, interval

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
# (colour, line style, marker, hatching), one after another; yellow is too pale for a line on white
LOOKS = (
    (BLUE, "-", "o", ""), (RED, "--", "s", "///"), (GREEN, "-.", "^", "..."), (BLACK, ":", "D", "xxx"),
    (PURPLE, (0, (6, 2, 1, 2, 1, 2)), "v", "\\\\\\"),
    (ORANGE, (0, (8, 3)), "P", "++"), (SKY, (0, (1, 1)), "X", "oo"),
)  # fmt: skip
# blue lowers, red raises; the red end is lighter than the blue one, so that a map of signs is readable in grey
CHANGE = LinearSegmentedColormap.from_list("change", ["#053061", "#4393C3", "#F7F7F7", "#F4A582", "#D6604D"])
_STYLE = {
    "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "legend.fontsize": 9, "legend.frameon": False, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": False, "grid.color": "#dddddd",
    "figure.dpi": 100, "lines.linewidth": 1.8, "lines.markersize": 5, "hatch.linewidth": 0.6,
    "figure.constrained_layout.use": True,
}  # fmt: skip

_shown = contextvars.ContextVar("shown", default=True)  # False while `sliders` draws


def _figure(draw):
    """Run `draw` under the module's style, then show what it drew."""

    @functools.wraps(draw)
    def figure(*args, **options):
        with plt.rc_context(_STYLE):
            before = set(plt.get_fignums())
            try:
                draw(*args, **options)
            except BaseException:  # a half-drawn figure would turn up under the next cell
                for number in set(plt.get_fignums()) - before:
                    plt.close(number)
                raise
            # where there is no screen, show() would only warn
            if _shown.get() and matplotlib.get_backend().lower() != "agg":
                plt.show()
            is_interactive = plt.isinteractive()
        # a notebook's first figure turns it on, and the context would turn it off again
        matplotlib.interactive(is_interactive)

    return figure


# --- images


@_figure
def images(x, *, titles=None, y=None, logits=None, columns=None, classes=None):
    """A grid of images with what the model says of each: predicted label and confidence.

    x: (N, H, W, C) in [0, 1], C 1 or 3. titles: text above each. logits: (N, K), of these images; the caption
    is the predicted class and its softmax probability. y: true labels; a wrong prediction gets an orange frame
    and the word "not". columns: images in a row, by default all up to 6. classes: names of the classes, by
    default their numbers. Grey values are fixed to 0 = black … 1 = white. Raises TypeError or ValueError for
    other shapes. Lessons 00 to 04.

        >>> plots.images(four, titles=["clean", "noise", "FGSM", "PGD-40"], logits=z, y=[7] * 4)
    """
    x = _as_images(x, "x")
    y = None if y is None else check_labels(y, len(x))
    z = None if logits is None else _per_image(logits, len(x), "logits")
    _, axes = _grid(
        len(x),
        columns,
        x.shape[1] / x.shape[2],
        below=0.0 if z is None and y is None else 0.42,
        above=titles is not None,
    )
    for i, ax in enumerate(axes):
        if i >= len(x):
            ax.axis("off")
            continue
        ax.imshow(
            x[i] if x.shape[3] == 3 else x[i, :, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest"
        )
        ax.set(xticks=[], yticks=[])
        for side in ax.spines.values():
            side.set(visible=True, color="#999999", linewidth=0.8)
        if titles is not None:
            ax.set_title(_pick(titles, i, len(x), "titles"), fontsize=10)
        if z is not None:
            p = np.exp(z[i] - z[i].max())
            top, sure = int(z[i].argmax()), float(p.max() / p.sum())
            text, wrong = f"{_class(top, classes)}, {_confidence(sure)}", y is not None and top != y[i]
            ax.set_xlabel(
                f"{text}\n(not {_class(y[i], classes)})" if wrong else text,
                fontsize=9,
                color=RED if wrong else BLACK,
            )
            if wrong:
                for side in ax.spines.values():
                    side.set(color=RED, linewidth=2.5)
        elif y is not None:
            ax.set_xlabel(_class(y[i], classes), fontsize=9)


@_figure
def perturbations(delta, *, titles=None, columns=None, limit=None, label="pixel change (range 0–1)"):
    """Signed maps on one scale: blue lowers a pixel, red raises it, white leaves it. For perturbations,
    gradients, weights.

    delta: (N, H, W) or (N, H, W, C); channels are averaged. limit: the value of the fullest red, by default
    the largest |delta|. label: of the colour bar. titles, columns: as in `images`. Lessons 03 and 04.

        >>> plots.perturbations(x_adv - x, titles=["FGSM", "PGD-40"])
    """
    delta = np.asarray(delta)
    if delta.ndim not in (3, 4) or delta.dtype.kind != "f" or 0 in delta.shape:
        raise ValueError(
            f"delta is {describe(delta)}: (images, height, width) or (…, channels) was expected, "
            "for example x_adv - x"
        )
    if not np.isfinite(delta).all():
        raise ValueError(
            "delta has numbers that are not finite: a change of each pixel was expected, for example x_adv - x"
        )
    delta = delta.mean(axis=3) if delta.ndim == 4 else delta
    limit = float(np.abs(delta).max()) or 1.0 if limit is None else float(limit)
    fig, axes = _grid(
        len(delta), columns, delta.shape[1] / delta.shape[2], below=0, above=titles is not None, right=1.1
    )
    for i, ax in enumerate(axes):
        if i >= len(delta):
            ax.axis("off")
            continue
        shown = ax.imshow(delta[i], cmap=CHANGE, vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        for side in ax.spines.values():
            side.set(visible=True, color="#999999", linewidth=0.8)
        if titles is not None:
            ax.set_title(_pick(titles, i, len(delta), "titles"), fontsize=10)
    fig.colorbar(
        shown, ax=list(axes), label=label, shrink=0.9, ticks=np.linspace(-limit, limit, 5), format="%.3g"
    )


def _grid(n, columns, ratio, *, below, above, right=0.0):
    """Axes for n images, and a figure of a size that depends on nothing but their number and form."""
    columns = min(n, columns or 6)
    rows = -(-n // columns)
    side = min(1.9, 9.0 / columns)
    size = (columns * side + right + 0.2, rows * (side * ratio + below + 0.3 * above) + 0.1)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    return fig, axes.ravel()


# --- accuracy


@_figure
def curves(tables, *, styles=None, norm=None, title=None, xlabel=None, ylabel="still classified correctly"):
    """Accuracy over the budget, one line for each table of `robustness.curve`, with its 95 % interval as a
    band.

    tables: name → DataFrame with columns eps, accuracy, low, high. styles: name → line style ("dashed", …),
    for the lines that are to stand apart. norm: for the label of the axis, unless xlabel is given; by default
    the one that `robustness.curve` measured in, ValueError where the tables differ. ylabel: what the shares
    are of. Lessons 02 and 05.

        >>> plots.curves({"uniform noise": noise, "FGSM": fgsm}, styles={"FGSM": "dashed"})
    """
    _check_named(tables, "tables", "DataFrames", "{'PGD-40': robustness.curve(...)}")
    measured = {table.attrs.get("norm") for table in tables.values()} - {None}
    if len(measured) > 1 and norm is None and xlabel is None:
        raise ValueError(
            f"the tables were measured in {' and '.join(sorted(measured))}: one norm, or an xlabel, was expected, "
            "for example plots.curves(tables, xlabel='ε')"
        )
    _, ax = plt.subplots(figsize=(7.0, 4.2))
    for (name, table), (colour, line, marker, _) in zip(tables.items(), _looks(len(tables)), strict=True):
        if missing := [c for c in ("eps", "accuracy", "low", "high") if c not in table]:
            raise ValueError(
                f"tables[{name!r}] has no column {missing[0]!r}: a table of robustness.curve was expected"
            )
        line = (styles or {}).get(name, line if styles is None else "-")
        eps = table["eps"].to_numpy()
        ax.fill_between(eps, table["low"], table["high"], color=colour, alpha=0.18, linewidth=0)
        ax.plot(
            eps,
            table["accuracy"],
            color=colour,
            linestyle=line,
            marker=marker,
            label=name,
            clip_on=False,
            zorder=3,
        )
    ax.set(ylim=(0, 1), ylabel=ylabel, xlabel=xlabel or _budget(norm or next(iter(measured), None)))
    ends = min(t["eps"].min() for t in tables.values()), max(t["eps"].max() for t in tables.values())
    if ends[0] < ends[1]:
        ax.set_xlim(*ends)
    _in_percent(ax.yaxis)
    ax.grid(True)
    ax.set_axisbelow(True)
    ax.set_title(title or "Accuracy over the perturbation budget (bands: 95 % intervals)")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.2)


@_figure
def accuracies(reports, *, title=None):
    """Reports of several models side by side: a bar for clean, each attack and the worst case, with 95 %
    Wilson intervals.

    reports: name → `Report`. Bars are in the order of the first report; one whose attack another report lacks
    is left out there. Lesson 05.

        >>> plots.accuracies({"standard": report, "PGD-trained": other})
    """
    _check_named(reports, "reports", "Reports", "{'standard': advlib.evaluate(...)}")
    attacks = dict.fromkeys(a for report in reports.values() for a in report.outcomes)
    rows = [CLEAN, *attacks, WORST]
    settings = {name: f"{report.threat_model}, {report.n:,} images" for name, report in reports.items()}
    alike = len(set(settings.values())) == 1
    _, ax = plt.subplots(figsize=(7.5, 1.3 + len(rows) * (0.16 + 0.24 * len(reports))))
    height = 0.8 / len(reports)
    for i, ((name, report), (colour, _, _, hatch)) in enumerate(
        zip(reports.items(), _looks(len(reports)), strict=True)
    ):
        here = [r for r in rows if r in report.names]
        at = np.array([rows.index(r) for r in here]) + (i - (len(reports) - 1) / 2) * height
        value = np.array([report.accuracy(r) for r in here])
        ends = np.array([report.interval(r) for r in here]).T
        ax.barh(
            at,
            value,
            height * 0.92,
            color=_pale(colour),
            edgecolor=colour,
            hatch=hatch,
            label=name if alike else f"{name}\n({settings[name]})",
        )
        ax.errorbar(value, at, xerr=np.abs(ends - value), fmt="none", ecolor=BLACK, capsize=3, elinewidth=1.2)
        for v, high, place in zip(value, ends[1], at, strict=True):
            ax.text(max(v, high) + 0.012, place, _percent(v), va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(
        xlim=(0, 1.12),
        ylim=(len(rows) - 0.45, -0.55),
        xticks=np.linspace(0, 1, 6),
        xlabel="still classified correctly",
    )
    _in_percent(ax.xaxis)
    ax.set_title(title or f"{next(iter(settings.values())) if alike else 'Accuracy'} (lines: 95 % intervals)")
    if len(reports) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=2.5, handleheight=1.2)


@_figure
def intervals(counts, *, title="What this many images can tell: 95 % intervals", xlabel="accuracy"):
    """Proportions with their 95 % Wilson intervals, one under the other. counts: name → (k, n). Lessons 01
    and 05.

        >>> plots.intervals({"50 images": (45, 50), "5,000 images": (4500, 5000)})
    """
    _check_named(counts, "counts", "pairs (k, n)", "{'50 images': (45, 50)}")
    _, ax = plt.subplots(figsize=(7.5, 1.1 + 0.36 * len(counts)))
    for row, (k, n) in enumerate(counts.values()):
        low, high = interval(k, n)
        ax.errorbar(k / n, row, xerr=_ends(k / n, low, high), fmt="o", color=BLUE, ecolor=BLACK, capsize=4)
        text = f"{k:,} of {n:,}: {_percent(k / n)} ({100 * low:.1f} to {100 * high:.1f})"
        ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.set_yticks(range(len(counts)), counts)
    ax.set(ylim=(len(counts) - 0.5, -0.5), title=title, xlabel=xlabel)
    _in_percent(ax.xaxis)
    ax.grid(True, axis="x")


@_figure
def certified(ceilings, floors, n, *, title=None):
    """What attacks left standing above, what is proved below, and between them what nobody knows; models
    beside each other.

    ceilings: name → {attack: images right under it *and all before it*}, as counts that never rise. floors:
    name → images certified. n: of how many images. Lines at the steps: 95 % Wilson intervals. ValueError for
    counts that rise, and for a floor above its ceiling, which no sound bound and no valid attack give.
    Lesson 11.

        >>> plots.certified({"IBP": {"clean": 195, "+ PGD": 188}}, {"IBP": 170}, 200)
    """
    _check_named(ceilings, "ceilings", "counts", "{'IBP': {'clean': 195, '+ PGD': 188}}")
    _check_named(floors, "floors", "counts", "{'IBP': 170}")
    if list(floors) != list(ceilings):
        raise ValueError(
            f"floors has {list(floors)}, ceilings {list(ceilings)}: the same names were expected"
        )
    for name, counts in ceilings.items():
        _check_named(counts, f"ceilings[{name!r}]", "counts", "{'clean': 195, '+ PGD': 188}")
        down = [*counts.values(), floors[name]]
        if any(a < b for a, b in itertools.pairwise(down)):
            raise ValueError(
                f"{name}: {down}, the floor last, rises: each attack together with those before it leaves no "
                "more than they did, and no floor is above that, for example [195, 188, 170]"
            )
    widest = max(map(len, ceilings.values())) + 1
    size = (min(max(1.2 + 0.75 * widest * len(ceilings), 6.5), 10.5), 4.8)
    fig, axes = plt.subplots(1, len(ceilings), figsize=size, sharey=True, squeeze=False)
    for ax, (name, counts) in zip(axes[0], ceilings.items(), strict=True):
        rows = {**counts, "proved": floors[name]}
        values = np.array(list(rows.values())) / n
        known = {"label": "proved", "facecolor": _pale(GREEN), "edgecolor": GREEN, "hatch": "..."}
        between = {"label": "not known", "facecolor": _pale(YELLOW), "edgecolor": ORANGE, "hatch": "///"}
        ax.axhspan(0, values[-1], linewidth=0, **known)
        ax.axhspan(values[-1], values[-2], linewidth=0, **between)
        line = {"label": "right so far, attack by attack", "color": BLUE, "linewidth": 2.4}
        ax.stairs(values[:-1], np.arange(len(values)), baseline=None, **line)
        for at, (k, value) in enumerate(zip(rows.values(), values, strict=True)):
            low, high = interval(k, n)
            colour = BLACK if at == len(counts) else BLUE
            ends = _ends(value, low, high)
            look = {"fmt": "o", "color": colour, "ecolor": BLACK, "capsize": 3, "clip_on": False, "zorder": 4}
            ax.errorbar(at + 0.5, value, yerr=ends, **look)
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            ax.text(at + 0.5, high + 0.025, _percent(value), ha="center", fontsize=9, bbox=paper)
        ax.set_xticks(np.arange(len(rows)) + 0.5, rows, rotation=35, ha="right", rotation_mode="anchor")
        ax.set(xlim=(0, len(rows)), ylim=(0, 1.1), yticks=np.linspace(0, 1, 6), title=name)
        _in_percent(ax.yaxis)
    axes[0, 0].set_ylabel("share of images")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=2.5, handleheight=1.2)
    fig.suptitle(title or f"Left by attacks, and proved ({n:,} images; lines: 95 % intervals)", fontsize=11)


@_figure
def confusion(y, predicted, *, classes=None, title=None):
    """The confusion matrix, and beside it the accuracy with its interval, in all and for each class.

    y, predicted: labels (N,). classes: names, by default the numbers. The diagonal, which would outshine the
    errors, is left white; the shades show the errors alone. Lesson 01.

        >>> plots.confusion(y_test, predict_logits(net, x_test).argmax(axis=1))
    """
    y = np.asarray(y)
    y = check_labels(y, y.size)
    predicted = check_labels(predicted, len(y), name="predicted")
    if not len(y):
        raise ValueError("y is empty: at least one label was expected, for example y_test")
    k = int(max(y.max(), predicted.max(), len(classes or ()) - 1)) + 1
    counts = np.zeros((k, k), int)
    np.add.at(counts, (y, predicted), 1)
    names = [_class(i, classes) for i in range(k)]
    _, (ax, beside) = plt.subplots(1, 2, figsize=(9.5, 4.8), width_ratios=(1.55, 1))
    wrong = np.where(np.eye(k, dtype=bool), 0, counts)
    ax.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(wrong.max(), 1) * 1.6)
    for i, j in np.argwhere(counts):
        ax.text(
            j,
            i,
            f"{counts[i, j]}",
            ha="center",
            va="center",
            fontsize=9 if k <= 12 else 6,
            fontweight="bold" if i == j else None,
        )
    turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 3 else {}
    ax.set_xticks(range(k), names, **turn)
    ax.set_yticks(range(k), names)
    ax.set(xlabel="predicted class", ylabel="true class", title=title or "Who is taken for whom (images)")
    right = int((y == predicted).sum())
    low, high = interval(right, len(y))
    for c in range(k):
        if n := int((y == c).sum()):
            share, (a, b) = counts[c, c] / n, interval(int(counts[c, c]), n)
            beside.errorbar(share, c, xerr=_ends(share, a, b), fmt="o", color=BLUE, ecolor=BLACK, capsize=3)
    beside.axvspan(low, high, color=ORANGE, alpha=0.35, linewidth=0)
    beside.axvline(right / len(y), color=RED, linestyle="--")
    beside.set_yticks(range(k), names)
    beside.set(ylim=(k - 0.5, -0.5), xlabel="accuracy, with 95 % interval", ylabel="true class")
    beside.set_title(
        f"{right:,} of {len(y):,} right: {100 * right / len(y):.2f} %\n"
        f"(band: 95 % interval, {100 * low:.2f} to {100 * high:.2f} %)"
    )
    _in_percent(beside.xaxis)
    beside.locator_params(axis="x", nbins=5)
    beside.grid(True, axis="x")


@_figure
def confidences(groups, *, bins=20, title="How sure the model is of what it says"):
    """Histograms of confidence, the largest softmax probability, one above the other: is confident safe?

    groups: name → logits (N, K), for example of clean and of adversarial images. Lesson 03.

        >>> plots.confidences({"clean": z_clean, "FGSM": z_fgsm})
    """
    _check_named(groups, "groups", "logits", "{'clean': predict_logits(net, x)}")
    fig, axes = plt.subplots(
        len(groups), 1, figsize=(7.0, 0.9 + 1.35 * len(groups)), sharex=True, squeeze=False
    )
    for ax, (name, z), (colour, _, _, hatch) in zip(
        axes[:, 0], groups.items(), _looks(len(groups)), strict=True
    ):
        z = _per_image(z, len(np.asarray(z)), f"groups[{name!r}]").astype(np.float64)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        sure = p.max(axis=1) / p.sum(axis=1)
        weights = np.full(len(sure), 1 / len(sure))
        ax.hist(
            sure,
            np.linspace(0, 1, bins + 1),
            weights=weights,
            color=_pale(colour),
            edgecolor=colour,
            hatch=hatch,
        )
        ax.axvline(np.median(sure), color=BLACK, linestyle="--")
        ax.set_title(
            f"{name}: median {_confidence(np.median(sure))} of {len(sure):,} images", fontsize=10, loc="left"
        )
        ax.set(ylim=(0, 1), xlim=(0, 1.005), yticks=[0, 0.5, 1])
        _in_percent(ax.yaxis)
    axes[-1, 0].set_xlabel("confidence (largest softmax probability; dashed: median)")
    _in_percent(axes[-1, 0].xaxis)
    fig.supylabel("share of images", fontsize=10)
    fig.suptitle(title, fontsize=11)


@_figure
def heatmap(table, *, title=None, label="share of images misread", limit=None):
    """Shares as a grid of shades, each with its number in per cent, such as the errors of models under
    corruptions.

    table: DataFrame of values in [0, 1], a row for each model and a column for each corruption. label: of the
    colour bar. limit: the share of the darkest shade, by default the largest. The shades run from light to
    dark, so that grey print keeps their order. Raises TypeError or ValueError for other tables. Lesson 12.

        >>> plots.heatmap(pd.DataFrame({"MLP": corruptions.errors(mlp, x, y)}).T)
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"table is {describe(table)}: a DataFrame of shares was expected, a row for each model, "
            "for example pd.DataFrame({'MLP': corruptions.errors(mlp, x, y)}).T"
        )
    try:
        values = table.to_numpy(float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"table holds what is no number ({error}): shares in [0, 1] were expected"
        ) from error
    if 0 in values.shape or not (values >= 0).all() or not (values <= 1).all():
        raise ValueError(
            f"table is {describe(values)}: shares in [0, 1], no NaN, were expected, for example 0.25 for 25 %"
        )
    limit = float(values.max()) or 1.0 if limit is None else float(limit)
    if not limit > 0:
        raise ValueError(f"limit={limit!r}: a share above 0 was expected, for example 1.0")
    rows, columns = values.shape
    names = [[str(name) for name in axis] for axis in (table.index, table.columns)]
    size = (min(11.0, 1.2 + 0.075 * max(map(len, names[0])) + 0.49 * columns), max(3.6, 1.6 + 0.42 * rows))
    fig, ax = plt.subplots(figsize=size)
    shown = ax.imshow(values, cmap="cividis_r", vmin=0, vmax=limit, aspect="auto")
    for i, j in np.ndindex(values.shape):
        r, g, b, _ = shown.cmap(shown.norm(values[i, j]))
        ink = "white" if 0.3 * r + 0.59 * g + 0.11 * b < 0.5 else BLACK
        ax.text(j, i, f"{100 * values[i, j]:.0f}", ha="center", va="center", color=ink, fontsize=9)
    ax.set_xticks(range(columns), names[1], rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(rows), names[0])
    ax.tick_params(length=0)
    for edges, line in ((range(1, columns), ax.axvline), (range(1, rows), ax.axhline)):
        for edge in edges:  # white gaps: neighbours of the same shade stay two cells
            line(edge - 0.5, color="white", linewidth=1.5)
    for side in ax.spines.values():
        side.set_visible(False)
    if title:
        ax.set_title(title)
    bar = fig.colorbar(shown, ax=ax, label=label, fraction=0.04, pad=0.02)
    _in_percent(bar.ax.yaxis)


@_figure
def traces(runs, *, xlabel="step", title=None):
    """What changes from step to step, such as loss and accuracy, for several settings, and for several models
    beside each other.

    runs: name of a line → table, or name of a panel → {name of a line → table}. A table is anything that
    pandas makes a DataFrame of, such as {"loss": [...], "accuracy": [...]}; its index, by default 0, 1, 2 …,
    is the step. There is a row of axes for each column of the tables and a column for each panel. Columns
    called "accuracy" run from 0 to 100 %. Lessons 01 (xlabel="epoch") and 04.

        >>> plots.traces({"standard": {"α = 0.01": a, "α = 0.1": b}, "PGD-trained": {"α = 0.01": c}})
    """
    _check_named(runs, "runs", "tables", "{'α = 0.01': {'loss': [...], 'accuracy': [...]}}")
    nested = all(
        isinstance(run, Mapping) and any(np.ndim(v) != 1 or isinstance(v, Mapping) for v in run.values())
        for run in runs.values()
    )
    panels = runs if nested else {"": runs}
    panels = {
        panel: {name: pd.DataFrame(run) for name, run in lines.items()} for panel, lines in panels.items()
    }
    rows = list(
        dict.fromkeys(column for lines in panels.values() for table in lines.values() for column in table)
    )
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    looks = dict(zip(names, _looks(len(names)), strict=True))
    size = (min(4.1 * len(panels) + 2.0, 10.0), 0.8 + 2.3 * len(rows))
    fig, axes = plt.subplots(len(rows), len(panels), figsize=size, sharex=True, squeeze=False)
    for column, (panel, lines) in enumerate(panels.items()):
        for row, quantity in enumerate(rows):
            ax = axes[row, column]
            for name, table in lines.items():
                if quantity in table:
                    colour, line, marker, _ = looks[name]
                    every = max(1, len(table) // 8)
                    ax.plot(
                        table.index,
                        table[quantity],
                        color=colour,
                        linestyle=line,
                        marker=marker,
                        markevery=every,
                        label=name,
                        clip_on=quantity != "accuracy",  # what lies at 0 % is not cut in half
                        zorder=3,
                    )
            if quantity == "accuracy":
                ax.set_ylim(0, 1.02)
                _in_percent(ax.yaxis)
            ax.set(ylabel=quantity if column == 0 else "", xlabel=xlabel if row == len(rows) - 1 else "")
            ax.grid(True)
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[0, column].set_title(panel)
    handles = {label: h for ax in axes.flat for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if len(names) > 1:
        fig.legend(handles.values(), handles, loc="outside right center", handlelength=3.2)
    if title:
        fig.suptitle(title, fontsize=11)


@_figure
def tradeoff(points, *, xlabel="clean accuracy", ylabel="robust accuracy", title=None):
    """Robust against clean accuracy, a point with both 95 % Wilson intervals and a label for each model.

    points: name → ((k, n) clean, (k, n) robust), k of n images right. Labels keep clear of each other, of the points and
    of the intervals; a thin line leads from a label to its point where it cannot stand beside it. Robust accuracy
    is drawn from 0 to 100 %, clean accuracy over what the points need. Lesson 10.

        >>> plots.tradeoff({"standard": ((988, 1000), (0, 1000)), "PGD-trained": ((986, 1000), (890, 1000))})
    """
    _check_named(points, "points", "two pairs (k, n)", "{'standard': ((988, 1000), (0, 1000)), 'other': …}")
    pairs = {}
    for name, pair in points.items():
        if np.shape(pair) != (2, 2):
            raise ValueError(
                f"points[{name!r}] is {describe(pair)}: two pairs (k, n), clean and robust, were expected, "
                "for example ((988, 1000), (890, 1000))"
            )
        pairs[name] = [(k / n, *interval(k, n)) for k, n in pair]
    fig, ax = plt.subplots(figsize=(8.0, 5.6))
    looks = _looks(len(pairs))
    taken = []  # what no label may cover, as x0, y0, x1, y1
    for (clean, robust), (colour, _, marker, _) in zip(pairs.values(), looks, strict=True):
        ends = {"xerr": _ends(*clean), "yerr": _ends(*robust)}
        line = {"ecolor": colour, "elinewidth": 1.0, "capsize": 2.5, "clip_on": False}
        ax.errorbar(clean[0], robust[0], **ends, **line, fmt=marker, color=colour, markersize=7)
        taken += [(clean[1], robust[0], clean[2], robust[0]), (clean[0], robust[1], clean[0], robust[2])]
    low = min(clean[1] for clean, _ in pairs.values())
    ax.set(
        xlim=(max(0.0, low - 0.25 * (1 - low) - 0.002), 1.0), ylim=(-0.03, 1.0), xlabel=xlabel, ylabel=ylabel
    )
    ax.set_title(title or "Clean and robust accuracy (lines: 95 % intervals)")
    _in_percent(ax.xaxis)
    _in_percent(ax.yaxis)
    ax.grid(True)
    ax.set_axisbelow(True)
    fig.canvas.draw()  # the layout is made here: only now does a label have a place in pixels
    fig.set_layout_engine("none")
    around = np.array([-5, -5, 5, 5])  # pixels
    boxes = [around + ax.transData.transform(np.reshape(box, (2, 2))).ravel() for box in taken]
    # from the right: where models crowd towards 100 %, the outermost labels take the room outside first
    order = sorted(zip(pairs.items(), looks, strict=True), key=lambda one: -one[0][1][0][0])
    for (name, (clean, robust)), (colour, *_) in order:
        boxes += _label(ax, name, (clean[0], robust[0]), colour, boxes)


def _label(ax, text, at, colour, boxes):
    """Write `text` near the point `at`, clear of `boxes` (x0, y0, x1, y1 in pixels); the boxes of text and line."""
    fig, point = ax.figure, ax.transData.transform(at)
    renderer, unit = fig.canvas.get_renderer(), fig.dpi / 72
    label = ax.annotate(text, at, (0, 0), textcoords="offset points", fontsize=9, va="center", ha="center")
    half = np.array(label.get_window_extent(renderer).size) / 2 + 2
    frame, least = ax.get_window_extent(renderer), None
    for distance in (10, 18, 28, 40, 55, 70, 90, 110, 135, 160):  # points, from the point to the label's edge
        for angle in np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225, 20, 340, 160, 200, 65, 295, 115, 245]):
            way = np.array([np.cos(angle), np.sin(angle)])
            middle = point + way * (distance * unit + half * np.abs(way))
            box = np.concatenate([middle - half, middle + half])
            outside = box[0] < frame.x0 or box[1] < frame.y0 or box[2] > frame.x1 or box[3] > frame.y1
            line = []
            if distance > 10:  # small boxes along the line, beyond the marker
                edge = np.clip(point, box[:2], box[2:])
                length = np.linalg.norm(edge - point)
                beyond = np.arange(10, length, 2)[:, None] / length  # 10 pixels: the marker
                path = point + beyond * (edge - point)
                line = list(np.hstack([path - 1, path + 1]))
            hit = sum(_overlap(a, b) for a in (box, *line) for b in boxes) + 1e6 * outside
            if least is None or hit < least[0]:
                least = hit, middle, [box, *line]
        if least[0] == 0:
            break
    _, middle, (box, *line) = least
    label.set_position((middle - point) / unit)
    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # no grid line through the text
    if line:
        ends = ax.transData.inverted().transform([point, np.clip(point, box[:2], box[2:])])
        ax.plot(*ends.T, color=colour, linewidth=0.8, zorder=1.5)
    return [box, *line]


def _overlap(a, b):
    """The area in which two boxes (x0, y0, x1, y1) overlap."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


# --- interactive


@dataclasses.dataclass(frozen=True)
class Sliders:
    """What `sliders` returns: a cell shows the widget, and where no kernel answers, as in the book, the first figure."""

    widget: object  # an ipywidgets.VBox: a slider for each choice, then the figure
    png: str  # the first figure, in base64
    caption: str

    def _repr_mimebundle_(self, **_):
        return {**self.widget._repr_mimebundle_(), "image/png": self.png, "text/plain": self.caption}


def sliders(draw, choices, *, start=None):
    """A figure that is drawn again whenever a slider is moved: by the mouse, by the arrow keys. The last line of a cell.

    draw: is given a value of each choice and draws one figure, by a function of this module or by pyplot without
    `plt.show()`. It returns a sentence that says what the figure shows, for the caption and for those who cannot see it.
    Keep it under 0.3 s: what takes longer is computed before. choices: name → its values. start: the values to begin
    with, by default the first of each. Raises TypeError for a draw that returns no sentence and ValueError for one that
    draws no figure or several, for a choice without values, and for a start that is none of them. Needs ipywidgets, which
    comes with `pip install advlib[course]`. Lessons 02 to 06 and 10.

        >>> plots.sliders(draw, {"ε": [0, 0.1, 0.2, 0.3], "image": range(8)}, start=(0.1, 0))
    """
    import ipywidgets  # half a second, and no report needs it

    _check_named(choices, "choices", "lists of values", "{'ε': [0, 0.1, 0.2]}")
    choices = {name: list(values) for name, values in choices.items()}
    start = [next(iter(values), None) for values in choices.values()] if start is None else list(start)
    if len(start) != len(choices) or not all(map(list.__contains__, choices.values(), start)):
        raise ValueError(
            f"start={start!r}: one of the values of each choice was expected, in the order of {choices!r}"
        )
    controls = []
    for (name, values), value in zip(choices.items(), start, strict=True):
        options = [(f"{v:g}" if isinstance(v, float) else str(v), v) for v in values]
        index = values.index(value)  # given as value, a 0 would have no label
        controls.append(ipywidgets.SelectionSlider(options=options, index=index, description=name))
        controls[-1].layout.width = "26em"
    figure = ipywidgets.HTML()  # not ipywidgets.Image, which has no alt text

    def show():
        png, caption = _frame(draw, [control.value for control in controls])
        text = html.escape(caption)
        image = (
            f'<img alt="{text}" src="data:image/png;base64,{png}" style="max-width: 100%" decoding="sync">'
        )
        figure.value = f'{image}<div role="status" style="line-height: 1.4">{text}</div>'
        return png, caption

    def move(_):
        try:
            show()
        except Exception as error:  # else it is in a log that nobody reads, and the figure stands still
            figure.value = f'<div role="alert">{html.escape(f"{type(error).__name__}: {error}")}</div>'
            raise

    for control in controls:
        control.observe(move, "value")
    return Sliders(ipywidgets.VBox([*controls, figure]), *show())


def _frame(draw, values):
    """The figure that draw(*values) makes, as a PNG in base64, and the sentence that it returns; no screen shows it."""
    before, buffer = set(plt.get_fignums()), io.BytesIO()
    hidden = _shown.set(False)
    try:
        with plt.rc_context(_STYLE):
            caption = draw(*values)
            drawn = [number for number in plt.get_fignums() if number not in before]
            if len(drawn) != 1:
                raise ValueError(
                    f"draw{tuple(values)} left {len(drawn)} figures: one was expected, for example of plots.images(x[:4]), "
                    "without plt.show()"
                )
            plt.figure(drawn[0]).savefig(buffer, format="png")
    finally:
        _shown.reset(hidden)
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    if not isinstance(caption, str) or not caption.strip():
        raise TypeError(
            f"draw{tuple(values)} returned {describe(caption)}: a sentence on what the figure shows was expected, "
            "for example f'ε = {eps}: the network says {says}'"
        )
    return base64.b64encode(buffer.getvalue()).decode(), caption


# --- shared


def _looks(n):
    k = len(LOOKS)  # past the last each colour comes again, with another style, marker and hatching
    return [(LOOKS[i % k][0], *LOOKS[(i + i // k) % k][1:]) for i in range(n)]


def _pale(colour):
    r, g, b = matplotlib.colors.to_rgb(colour)
    return (0.45 + 0.55 * r, 0.45 + 0.55 * g, 0.45 + 0.55 * b)


def _budget(norm):
    unit = {
        "linf": "L∞, pixel range 0–1",
        "l2": "L2, pixel range 0–1",
        "l1": "L1, sum over pixels",
        "l0": "L0, number of pixels",
        None: "pixel range 0–1",  # a table made by hand
    }
    if norm not in unit:
        raise ValueError(
            f"norm={norm!r}: one of {', '.join(map(repr, filter(None, unit)))} was expected, for example norm='linf'"
        )
    return f"ε ({unit[norm]})"


def _class(label, classes):
    if classes is None:
        return str(int(label))
    if label >= len(classes):
        raise ValueError(
            f"class {label} has no name in classes, which has {len(classes)}: "
            "a name for each class was expected"
        )
    return str(classes[label])


def _in_percent(axis):
    axis.set_major_formatter(
        PercentFormatter(1.0, symbol=" %")
    )  # one for each axis: a formatter remembers its own


def _percent(p):
    return f"{100 * p:.1f} %"


def _confidence(p):
    return "> 99.9 %" if p > 0.999 else _percent(p)  # a softmax is never 100 % sure


def _ends(p, low, high):
    """Interval ends as Matplotlib wants them: distances, which rounding may make a little negative."""
    return [[max(p - low, 0)], [max(high - p, 0)]]


def _as_images(x, name):
    x = np.asarray(x)
    if x.ndim != 4 or x.shape[3] not in (1, 3) or x.dtype.kind != "f" or 0 in x.shape:
        raise ValueError(
            f"{name} is {describe(x)}: floats (images, height, width, 1 or 3 channels) were expected, "
            "for example x[:6]"
        )
    return x


def _per_image(z, n, name):
    z = np.asarray(z)
    if z.ndim != 2 or len(z) != n or not n:
        raise ValueError(
            f"{name} is {describe(z)}: one row of logits an image, ({n}, classes), was expected, "
            "for example predict_logits(net, x)"
        )
    if np.isnan(z).any():
        raise ValueError(
            f"{name} has NaN for {np.isnan(z).any(axis=1).sum()} of {n} images: numbers were expected; draw the others alone, "
            "for example x[~np.isnan(z).any(axis=1)]"
        )
    return z


def _pick(values, i, n, name):
    if isinstance(values, str) or len(values) != n:
        raise ValueError(
            f"{name}={values!r}: one text for each of {n} images was expected, for example ['clean', 'PGD']"
        )
    return values[i]


def _check_named(value, name, what, example):
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            f"{name} is {describe(value)}: a dict from names to {what} was expected, for example {example}"
        )
