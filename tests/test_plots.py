"""Figures show the right numbers, in a fixed size, legibly, with nothing cut off and no warning."""

import base64
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.container import BarContainer, ErrorbarContainer

from advlib import plots
from advlib.robustness import Outcome, Report, interval

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def made(accuracies, n=200, norm="linf", eps=0.1):
    y = np.zeros(n, int)
    report = Report(norm, eps, y, y.copy(), 10, "f" * 64)
    for name, k in accuracies.items():
        predicted = np.where(np.arange(n) < k, 0, 1)
        report.outcomes[name] = Outcome(
            predicted, np.full(n, eps), np.ones(n, bool), 1.0, np.zeros((n, 1, 1, 1), "f4")
        )
    return report


def table(*correct, n=200, norm="linf"):
    rows = [[0.1 * i, k, n, k / n, *interval(k, n), 0] for i, k in enumerate(correct)]
    made = pd.DataFrame(rows, columns=["eps", "correct", "n", "accuracy", "low", "high", "infeasible"])
    made.attrs["norm"] = norm
    return made


RNG = np.random.default_rng(0)
X = RNG.random((6, 28, 28, 1), dtype=np.float32)
Z = np.zeros((6, 10), np.float32)
Z[:, 3] = 2.0  # softmax: e² / (e² + 9) = 45.1 %
LABELS = RNG.integers(0, 10, 3000)
PREDICTED = np.where(RNG.random(3000) < 0.9, LABELS, RNG.integers(0, 10, 3000))
FASHION = [
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]
REPORTS = {
    "standard": made({"noise": 195, "FGSM": 60, "PGD-40": 4}),
    "wider": made({"noise": 196, "FGSM": 90, "PGD-40": 9}),
    "PGD-trained": made({"noise": 198, "FGSM": 190, "PGD-40": 186}),
}
STEPS = {"loss": np.linspace(0, 9, 41), "accuracy": np.linspace(0.98, 0.02, 41)}

FIGURES = {
    "one image": lambda: plots.images(X[:1]),
    "images with captions": lambda: plots.images(
        X[:4],
        titles=["clean", "noise, ε = 0.1", "FGSM, ε = 0.1", "PGD-40, ε = 0.1"],
        logits=Z[:4],
        y=[3, 3, 3, 7],
    ),
    "images in rows": lambda: plots.images(X, columns=4, logits=Z, y=[9] * 6, classes=FASHION),
    "colour images": lambda: plots.images(np.repeat(X, 3, axis=3)),
    "one perturbation": lambda: plots.perturbations(X[:1] - 0.5),
    "perturbations": lambda: plots.perturbations(X[:3] - 0.5, titles=["noise", "FGSM", "PGD-40"]),
    "ten perturbations": lambda: plots.perturbations(
        np.ones((10, 28, 28)), titles=list("0123456789"), columns=5, label="weight"
    ),
    "one curve": lambda: plots.curves({"PGD-40": table(198, 120, 3)}),
    "curves": lambda: plots.curves(
        {f"a line with a long name {i}": table(198, 150 - 20 * i, 3) for i in range(7)}
    ),
    "curve of one budget": lambda: plots.curves({"PGD-40": table(198)}, norm="l2"),
    "one report": lambda: plots.accuracies({"": REPORTS["standard"]}),
    "reports": lambda: plots.accuracies(REPORTS),
    "reports of two budgets": lambda: plots.accuracies(
        {"a": REPORTS["wider"], "b": made({"PGD": 3}, norm="l2", eps=2)}
    ),
    "intervals": lambda: plots.intervals(
        {"5 images": (5, 5), "50 images": (45, 50), "500 images": (450, 500), "5,000 images": (4500, 5000)}
    ),
    "confusion": lambda: plots.confusion(LABELS, PREDICTED),
    "confusion with names": lambda: plots.confusion(LABELS, PREDICTED, classes=FASHION),
    "perfect confusion": lambda: plots.confusion(LABELS, LABELS),
    "confidences": lambda: plots.confidences(
        {"clean": 9 * Z, "FGSM": Z, "PGD-40": RNG.normal(size=(50, 10))}
    ),
    "tradeoff of one model": lambda: plots.tradeoff({"standard CNN": ((988, 1000), (0, 1000))}),
    "tradeoff": lambda: plots.tradeoff(MODELS),
    "one trace": lambda: plots.traces({"mlp": STEPS}, xlabel="epoch", title="Training"),
    "traces": lambda: plots.traces(
        {model: {f"α = {a}": STEPS for a in (0.001, 0.01, 0.1)} for model in ("standard", "PGD-trained")}
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_legible_and_whole(name):
    assert FIGURES[name]() is None
    fig = plt.gcf()
    size = fig.get_size_inches().copy()
    fig.canvas.draw()
    assert (fig.get_size_inches() == size).all() and size[0] <= 11 and size[1] <= 8
    renderer, edge, hidden, found = fig.canvas.get_renderer(), fig.bbox, hidden_tick_labels(fig), 0
    for text in fig.findobj(matplotlib.text.Text):
        if not text.get_visible() or not text.get_text().strip() or text in hidden:
            continue
        box = text.get_window_extent(renderer)
        found += 1
        assert text.get_fontsize() >= 9, (text.get_text(), text.get_fontsize())
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= edge.x1 + 1 and box.y1 <= edge.y1 + 1
        assert inside, (text.get_text(), box)
    assert found or name in ("one image", "colour images")


def hidden_tick_labels(fig):
    """Labels of ticks beyond the ends of their axis, which Matplotlib places but does not draw."""
    hidden = set()
    for ax in fig.axes:
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    return hidden


def test_figures_can_be_saved(tmp_path):
    plots.images(X[:2])
    plt.savefig(tmp_path / "two.png")
    assert plt.imread(tmp_path / "two.png").std() > 0


def test_settings_of_the_user_stay(monkeypatch):
    before = dict(matplotlib.rcParams)
    plots.curves({"a": table(198, 3)})
    assert dict(matplotlib.rcParams) == before


def test_a_window_is_shown_where_there_is_one(monkeypatch):
    shown = []
    monkeypatch.setattr(plots.matplotlib, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr(plots.plt, "show", lambda: shown.append(len(plt.gcf().axes)))
    plots.images(X[:2])
    assert shown == [2]


# --- What is shown


def test_images_are_shown_on_one_fixed_scale_with_what_the_model_says():
    dark = X * 0.2
    plots.images(dark[:3], titles=["a", "b", "c"], logits=Z[:3], y=[3, 7, 3])
    axes = plt.gcf().axes
    for ax, image in zip(axes, dark, strict=False):
        (shown,) = ax.images
        assert shown.get_clim() == (0, 1)
        assert np.array_equal(shown.get_array(), image[:, :, 0])
    assert [ax.get_title() for ax in axes] == ["a", "b", "c"]
    assert [ax.get_xlabel() for ax in axes] == ["3, 45.1 %", "3, 45.1 %\n(not 7)", "3, 45.1 %"]
    assert [ax.xaxis.label.get_color() for ax in axes] == [plots.BLACK, plots.RED, plots.BLACK]


def test_captions_have_the_names_of_the_classes_and_never_claim_certainty():
    plots.images(X[:1], logits=Z[:1] * 50, y=[9], classes=FASHION)
    assert plt.gca().get_xlabel() == "dress, > 99.9 %\n(not ankle boot)"


def test_perturbations_share_a_symmetric_scale():
    delta = np.zeros((2, 4, 4, 1), np.float32)
    delta[0, 0, 0], delta[1, 1, 1] = 0.1, -0.3
    plots.perturbations(delta)
    *maps, bar = plt.gcf().axes
    assert [ax.images[0].get_clim() for ax in maps] == [pytest.approx((-0.3, 0.3))] * 2
    assert maps[1].images[0].get_array()[1, 1] == np.float32(-0.3)
    assert bar.get_ylabel() == "pixel change (range 0–1)"
    raised, left, lowered = maps[0].images[0].to_rgba(np.array([0.3, 0.0, -0.3]))[:, :3]
    assert min(left) > 0.95  # white
    assert raised[0] > 2 * raised[2] and lowered[2] > 2 * lowered[0]  # red, and blue


def test_channels_of_a_perturbation_are_averaged():
    delta = np.zeros((1, 2, 2, 3), np.float32)
    delta[0, 0, 1] = 0.3, 0.0, -0.6
    plots.perturbations(delta)
    np.testing.assert_allclose(plt.gcf().axes[0].images[0].get_array(), [[0, -0.1], [0, 0]], atol=1e-6)


def test_curves_show_the_table():
    tables = {"noise": table(198, 190, 180), "PGD-40": table(198, 40, 2)}
    plots.curves(tables, styles={"PGD-40": "dashed"})
    ax = plt.gca()
    for line, (name, rows) in zip(ax.lines, tables.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xydata(), rows[["eps", "accuracy"]])
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert ax.get_xlabel() == "ε (L∞, pixel range 0–1)" and ax.get_ylim() == (0, 1)
    band = ax.collections[1].get_paths()[0].vertices
    assert (
        tables["PGD-40"]["low"].min() == band[:, 1].min()
        and tables["PGD-40"]["high"].max() == band[:, 1].max()
    )


def test_curves_name_the_norm_that_was_measured():
    plots.curves({"PGD": table(198, 40, norm="l2"), "noise": table(198, 190, norm=None)})
    assert plt.gca().get_xlabel() == "ε (L2, pixel range 0–1)"
    plots.curves({"by hand": table(198, 40, norm=None)}, ylabel="right and certified")
    assert plt.gca().get_xlabel() == "ε (pixel range 0–1)" and plt.gca().get_ylabel() == "right and certified"
    both = {"PGD": table(198, 40, norm="l2"), "other": table(198, 40)}
    with pytest.raises(ValueError, match=r"measured in l2 and linf: one norm, or an xlabel, was expected"):
        plots.curves(both)
    plots.curves(both, xlabel="budget")
    assert plt.gca().get_xlabel() == "budget"


def test_lines_differ_in_more_than_colour():
    plots.curves({str(i): table(198, 100 - i) for i in range(7)})
    lines = plt.gca().lines
    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 7
    assert len({str(look[1]) for look in plots.LOOKS}) == len({look[3] for look in plots.LOOKS}) == 7
    assert len(set(map(str, plots._looks(20)))) == 20, "past the seventh, too"


def test_what_is_no_number_is_not_drawn():
    lost = np.where(np.arange(len(Z))[:, None] == 1, np.nan, Z)
    for draw in (lambda: plots.images(X, logits=lost), lambda: plots.confidences({"net": lost})):
        with pytest.raises(ValueError, match=f"has NaN for 1 of {len(Z)} images"):
            draw()
    with pytest.raises(ValueError, match="not finite"):
        plots.perturbations(np.full((1, 4, 4), np.nan))


def test_bars_show_the_reports():
    plots.accuracies(REPORTS)
    ax = plt.gca()
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "clean",
        "noise",
        "FGSM",
        "PGD-40",
        "worst case",
    ]
    for bars, (name, report) in zip(
        [c for c in ax.containers if isinstance(c, BarContainer)], REPORTS.items(), strict=True
    ):
        assert bars.get_label() == name
        assert [bar.get_width() for bar in bars] == [report.accuracy(row) for row in report.names]
    texts = [text.get_text() for text in ax.texts]
    assert texts[:5] == ["100.0 %", "97.5 %", "30.0 %", "2.0 %", "2.0 %"]
    assert ax.get_title() == "L∞, ε = 0.1, 200 images (lines: 95 % intervals)"
    ends = next(c for c in ax.containers if isinstance(c, ErrorbarContainer))
    segment = ends.lines[2][0].get_segments()[2]
    assert segment[:, 0] == pytest.approx(interval(60, 200))


def test_bars_of_two_budgets_say_so():
    plots.accuracies({"a": REPORTS["wider"], "b": made({"PGD": 3}, norm="l2", eps=2)})
    labels = [text.get_text() for text in plt.gca().get_legend().get_texts()]
    assert labels == ["a\n(L∞, ε = 0.1, 200 images)", "b\n(L2, ε = 2, 200 images)"]


def test_a_report_plots_itself():
    REPORTS["standard"].plot()
    assert [bar.get_width() for bar in plt.gca().patches] == [1.0, 0.975, 0.3, 0.02, 0.02]


def test_intervals_show_each_proportion_of_its_own_images():
    counts = {"50 images": (45, 50), "5,000 images": (1000, 5000)}
    plots.intervals(counts)
    ax = plt.gca()
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [bar[0].get_xydata()[0].tolist() for bar in bars] == [[0.9, 0], [0.2, 1]]
    for bar, (k, n) in zip(bars, counts.values(), strict=True):
        assert bar[2][0].get_segments()[0][:, 0] == pytest.approx(interval(k, n))
    assert [t.get_text() for t in ax.get_yticklabels()] == list(counts)
    assert ax.texts[1].get_text() == "1,000 of 5,000: 20.0 % (18.9 to 21.1)"


def test_confusion_counts():
    y, predicted = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 1, 1, 0, 2])
    plots.confusion(y, predicted)
    left, beside = plt.gcf().axes
    texts = {tuple(map(int, text.get_position()[::-1])): text.get_text() for text in left.texts}
    assert texts == {(0, 0): "2", (0, 1): "1", (1, 1): "1", (2, 0): "1", (2, 2): "1"}
    assert beside.get_title().startswith("4 of 6 right: 66.67 %")
    low, high = (100 * v for v in interval(4, 6))
    assert f"{low:.2f} to {high:.2f} %" in beside.get_title()
    points = [c.lines[0].get_xdata()[0] for c in beside.containers]
    assert points == pytest.approx([2 / 3, 1, 1 / 2])


def test_confidences_are_shares_of_all_images():
    plots.confidences({"a": Z, "b": np.concatenate([Z, 9 * Z]), "c": np.concatenate([Z[:3], 9 * Z[:2]])})
    first, second, third = plt.gcf().axes
    heights = np.array([bar.get_height() for bar in first.patches])
    assert heights.sum() == pytest.approx(1) and heights[9] == pytest.approx(
        1
    )  # 45.1 % is in the tenth bin of 20
    assert second.patches[19].get_height() == pytest.approx(0.5)
    assert "median 45.1 % of 6 images" in first.get_title(loc="left")
    assert "median 45.1 % of 5 images" in third.get_title(loc="left")  # two that are sure do not move it


def test_traces_of_two_models():
    runs = {
        "standard": {"α = 0.1": STEPS},
        "PGD-trained": {"α = 0.1": pd.DataFrame(STEPS, index=range(5, 46))},
    }
    plots.traces(runs)
    axes = np.array(plt.gcf().axes).reshape(2, 2)
    assert [ax.get_title() for ax in axes[0]] == ["standard", "PGD-trained"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["loss", "accuracy"]
    np.testing.assert_array_equal(axes[1, 0].lines[0].get_ydata(), STEPS["accuracy"])
    np.testing.assert_array_equal(axes[0, 1].lines[0].get_xdata(), np.arange(5, 46))


# --- Bad input


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plots.images(X[0]), "x is float32 array"),
        (lambda: plots.images(X[:0]), "x is float32 array"),
        (lambda: plots.images((X * 255).astype("uint8")), "uint8"),
        (lambda: plots.images(X, titles=["one"]), "titles"),
        (lambda: plots.images(X, titles="abcdef"), "titles"),
        (lambda: plots.images(X, logits=Z[:2]), "logits"),
        (lambda: plots.images(X, y=[1, 2]), "y has shape"),
        (lambda: plots.images(X, logits=Z, classes=["a"]), "class 3 has no name"),
        (lambda: plots.perturbations(np.zeros(5)), "delta"),
        (lambda: plots.perturbations(np.zeros((2, 3, 3), int)), "delta"),
        (lambda: plots.curves({}), "tables is dict"),
        (lambda: plots.curves(table(3)), "tables is DataFrame"),
        (lambda: plots.curves({"a": table(3)}, norm="l5"), "norm='l5'"),
        (lambda: plots.curves({"a": table(3).drop(columns="low")}), "no column 'low'"),
        (lambda: plots.accuracies({}), "reports"),
        (lambda: plots.accuracies(REPORTS["standard"]), "reports is Report"),
        (lambda: plots.intervals([(1, 2)]), "counts is list"),
        (lambda: plots.confusion([1, 2], [1]), "predicted has shape"),
        (lambda: plots.confusion(LABELS[:0], LABELS[:0]), "empty"),
        (lambda: plots.confidences({"a": Z[0]}), "groups"),
        (lambda: plots.traces({}), "runs"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
    assert not plt.get_fignums()  # nothing half drawn is left for the notebook to show


# --- Heat maps: shares in per cent, on a scale that grey print keeps in order


KINDS = (
    "identity", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate", "brightness",
    "translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
)  # fmt: skip


def shares(rows, columns, seed=0):
    values = np.random.default_rng(seed).random((len(rows), len(columns))) * 0.8
    return pd.DataFrame(values, index=list(rows), columns=list(columns))


HEATMAPS = {
    "one cell": lambda: plots.heatmap(shares(["MLP"], ["fog"])),
    "nine models, sixteen kinds": lambda: plots.heatmap(
        shares([f"PGD-trained CNN, number {i}" for i in range(9)], KINDS),
        title="Errors, 500 images",
        label="error",
    ),
    "nothing wrong": lambda: plots.heatmap(0 * shares("ab", KINDS)),
}


@pytest.mark.parametrize("name", HEATMAPS)
def test_heatmaps_are_legible_and_whole(name, monkeypatch):
    monkeypatch.setitem(FIGURES, name, HEATMAPS[name])
    test_legible_and_whole(name)


def test_heatmap_writes_each_share_where_it_belongs():
    table = pd.DataFrame([[0.0, 0.126], [0.5, 1.0]], index=["MLP", "CNN"], columns=["fog", "stripe"])
    plots.heatmap(table, title="errors", label="error")
    ax, bar = plt.gcf().axes
    written = {t.get_position(): t.get_text() for t in ax.texts}
    assert written == {(0, 0): "0", (1, 0): "13", (0, 1): "50", (1, 1): "100"}
    assert [t.get_text() for t in ax.get_xticklabels()] == ["fog", "stripe"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["MLP", "CNN"]
    (shown,) = ax.images
    np.testing.assert_array_equal(shown.get_array(), table.to_numpy())
    assert shown.get_clim() == (0, 1) and ax.get_title() == "errors" and bar.get_ylabel() == "error"


def test_heatmap_is_read_in_grey():
    plots.heatmap(pd.DataFrame([np.linspace(0, 0.8, 9)]))
    ax = plt.gcf().axes[0]
    (shown,) = ax.images
    grey = (shown.cmap(shown.norm(shown.get_array()[0]))[:, :3] @ [0.3, 0.59, 0.11]).tolist()
    assert shown.get_clim() == (0, 0.8) and all(np.diff(grey) < 0)  # more is darker
    for text, behind in zip(ax.texts, grey, strict=True):
        ink = matplotlib.colors.to_rgb(text.get_color())[0]
        assert abs(ink - behind) > 0.35, (text.get_text(), ink, behind)


def test_heatmap_of_a_limit_of_ones_own():
    plots.heatmap(shares("ab", "cd"), limit=0.5)
    assert plt.gcf().axes[0].images[0].get_clim() == (0, 0.5)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plots.heatmap({"MLP": [0.1]}), "table is dict"),
        (lambda: plots.heatmap(shares("ab", "")), "table is"),
        (lambda: plots.heatmap(100 * shares("ab", "cd")), "shares in"),
        (lambda: plots.heatmap(shares("ab", "cd") - 0.9), "shares in"),
        (lambda: plots.heatmap(shares("ab", "cd") * np.nan), "NaN"),
        (lambda: plots.heatmap(pd.DataFrame([["a", "b"]])), "no number"),
        (lambda: plots.heatmap(shares("ab", "cd"), limit=0), "limit=0"),
    ],
)
def test_heatmap_names_bad_tables(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
    assert not plt.get_fignums()


# --- Ceilings and floors

CEILINGS = {
    "IBP-trained CNN": {"clean": 195, "noise": 194, "+ FGSM": 190, "+ PGD": 188, "+ AutoAttack, short": 186},
    "PGD-trained CNN": {"clean": 197, "noise": 195, "+ FGSM": 190, "+ PGD": 185, "+ AutoAttack, short": 178},
}
FLOORS = {"IBP-trained CNN": 172, "PGD-trained CNN": 0}
FIGURES |= {
    "certified": lambda: plots.certified(CEILINGS, FLOORS, 200),
    "certified, one model": lambda: plots.certified({"IBP": {"clean": 5}}, {"IBP": 5}, 5),
    "certified, a title": lambda: plots.certified(CEILINGS, FLOORS, 200, title="L∞, ε = 0.3"),
}


def test_certified_draws_the_counts_and_their_intervals():
    plots.certified(CEILINGS, FLOORS, 200)
    for ax, name in zip(plt.gcf().axes, CEILINGS, strict=True):
        counts = [*CEILINGS[name].values(), FLOORS[name]]
        assert ax.get_title() == name
        bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
        assert [bar[0].get_ydata()[0] for bar in bars] == pytest.approx([k / 200 for k in counts])
        ends = [bar[2][0].get_segments()[0][:, 1] for bar in bars]
        np.testing.assert_allclose(ends, [interval(k, 200) for k in counts], atol=1e-12)
        (stairs,) = (p for p in ax.patches if isinstance(p, matplotlib.patches.StepPatch))
        np.testing.assert_allclose(stairs.get_data().values, np.array(counts[:-1]) / 200)
        proved, unknown = (p for p in ax.patches if isinstance(p, matplotlib.patches.Rectangle))
        assert proved.get_height() == pytest.approx(counts[-1] / 200)
        assert unknown.get_y() == pytest.approx(counts[-1] / 200)
        assert unknown.get_y() + unknown.get_height() == pytest.approx(counts[-2] / 200)
        assert [t.get_text() for t in ax.get_xticklabels()] == [*CEILINGS[name], "proved"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (({}, {}, 200), "ceilings is dict"),
        ((CEILINGS, {"IBP-trained CNN": 172}, 200), "the same names"),
        (({"a": {}}, {"a": 0}, 200), "ceilings\\['a'\\]"),
        (({"a": {"clean": 190, "+ PGD": 191}}, {"a": 0}, 200), "rises"),
        (({"a": {"clean": 190, "+ PGD": 180}}, {"a": 181}, 200), "rises"),
        (({"a": {"clean": 190}}, {"a": 0}, 100), "k=190"),
    ],
)
def test_bad_ceilings_and_floors(arguments, words):
    with pytest.raises(ValueError, match=words):
        plots.certified(*arguments)
    assert not plt.get_fignums()


# --- Clean against robust accuracy

MODELS = {
    "standard CNN": ((9840, 10000), (0, 1000)),
    "PGD-trained": ((9860, 10000), (885, 1000)),
    "collapsed": ((9690, 10000), (0, 1000)),
    "strong PGD": ((9880, 10000), (905, 1000)),
    "TRADES": ((9850, 10000), (890, 1000)),
    "IBP": ((9740, 10000), (918, 1000)),
    "narrow": ((9680, 10000), (0, 1000)),
    "wide": ((9880, 10000), (0, 1000)),
    "narrow, PGD": ((9300, 10000), (600, 1000)),
    "wide, PGD": ((9900, 10000), (905, 1000)),
    "backdoored, PGD": ((9860, 10000), (880, 1000)),
}


def test_tradeoff_draws_both_shares_with_both_intervals():
    plots.tradeoff({"standard": ((988, 1000), (0, 200)), "PGD-trained": ((986, 1000), (177, 200))})
    ax = plt.gca()
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [c.lines[0].get_xydata()[0].tolist() for c in bars] == [[0.988, 0.0], [0.986, 0.885]]
    for container, clean, robust in zip(bars, (988, 986), (0, 177), strict=True):
        (across,), (up,) = (line.get_segments() for line in container.lines[2])
        assert across[:, 0] == pytest.approx(interval(clean, 1000))
        assert up[:, 1] == pytest.approx(interval(robust, 200))
    assert ax.get_xlim()[0] < interval(986, 1000)[0] and ax.get_xlim()[1] == 1


@pytest.mark.parametrize("names", [1, 2, len(MODELS)])
def test_labels_of_tradeoff_cover_nothing(names):
    plots.tradeoff(dict(list(MODELS.items())[:names]))
    fig, ax = plt.gcf(), plt.gca()
    fig.canvas.draw()
    boxes = {text.get_text(): text.get_window_extent(fig.canvas.get_renderer()) for text in ax.texts}
    assert set(boxes) == set(list(MODELS)[:names])
    for name, box in boxes.items():
        assert not any(box.overlaps(other) for text, other in boxes.items() if text != name), name
        clean, robust = ([k / n, *interval(k, n)] for k, n in MODELS[name])
        ends = [(clean[1], robust[0]), (clean[2], robust[0]), (clean[0], robust[1]), (clean[0], robust[2])]
        for other in list(MODELS)[:names]:
            (k, n), (l, m) = MODELS[other]
            assert not box.contains(*ax.transData.transform((k / n, l / m))), (name, other)
        for end in ends:
            assert not box.contains(*ax.transData.transform(end)), name
    for line in (line for line in ax.lines if line.get_linewidth() == 0.8 and len(line.get_xdata()) == 2):
        a, b = ax.transData.transform(line.get_xydata())
        path = a + np.linspace(0, 1, 200)[:, None] * (b - a)
        for name, box in boxes.items():  # it ends at its own label's edge
            inside = (path > [box.x0 + 1, box.y0 + 1]) & (path < [box.x1 - 1, box.y1 - 1])
            assert not inside.all(axis=1).any(), name


@pytest.mark.parametrize("points", [{}, [("a", 1)], {"a": (988, 1000)}, {"a": (0.988, 0.885)}])
def test_tradeoff_refuses_other_points(points):
    with pytest.raises((ValueError, TypeError), match="points"):
        plots.tradeoff(points)
    assert not plt.get_fignums()


# --- sliders


def titled(eps, i):
    plots.images(X[i : i + 1], titles=[f"ε = {eps:g}"])
    return f'ε = {eps:g}: image {i} is a "2" < 3'


EPS_AND_IMAGE = {"ε": [0, 0.1, 0.2], "image": range(6)}
PNG = b"\x89PNG\r\n\x1a\n"


def shown(interactive):
    """What the browser is told to show: the alt text, the picture, the caption."""
    found = re.fullmatch(
        r'<img alt="(.*)" src="data:image/png;base64,(.*?)" .*?>.*>(.*)</div>', figure(interactive).value
    )
    return found[1], base64.b64decode(found[2]), found[3]


def figure(interactive):
    return interactive.widget.children[-1]


def test_a_moved_slider_draws_anew():
    interactive = plots.sliders(titled, EPS_AND_IMAGE, start=(0.1, 0))
    eps, image, _ = interactive.widget.children
    assert [(control.description, control.label) for control in (eps, image)] == [
        ("ε", "0.1"),
        ("image", "0"),
    ]
    first = shown(interactive)
    eps.value = 0.2
    second = shown(interactive)
    image.value = 5
    third = shown(interactive)
    eps.value, image.value = 0.1, 0
    assert shown(interactive) == first
    pictures = [picture for _, picture, _ in (first, second, third)]
    assert len(set(pictures)) == 3 and all(picture.startswith(PNG) for picture in pictures)
    assert third[0] == third[2] == "ε = 0.2: image 5 is a &quot;2&quot; &lt; 3"


def test_where_no_kernel_answers_the_first_figure_stays():
    interactive = plots.sliders(titled, EPS_AND_IMAGE)
    bundle, _ = DisplayFormatter().format(interactive)  # as a cell does
    assert sorted(bundle) == ["application/vnd.jupyter.widget-view+json", "image/png", "text/plain"]
    assert bundle["text/plain"] == 'ε = 0: image 0 is a "2" < 3'
    interactive.widget.children[0].value = 0.2
    assert base64.b64decode(bundle["image/png"]).startswith(PNG)
    assert base64.b64decode(bundle["image/png"]) != shown(interactive)[1]


def test_sliders_leave_nothing_behind(monkeypatch):
    on_screen = []
    monkeypatch.setattr(plots.matplotlib, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr(plots.plt, "show", lambda: on_screen.append(plt.get_fignums()))
    settings, mine = dict(matplotlib.rcParams), plt.figure()
    interactive = plots.sliders(titled, EPS_AND_IMAGE)
    interactive.widget.children[1].value = 3
    assert on_screen == [] and plt.get_fignums() == [mine.number] and dict(matplotlib.rcParams) == settings
    plots.images(X[:1])
    assert len(on_screen) == 1  # later figures are shown as before


def test_a_drawing_that_fails_says_so_in_place_of_the_figure():
    def fails_later(eps):
        plots.images(X[: 1 if eps == 0 else 0])
        return "one"

    interactive = plots.sliders(fails_later, {"ε": [0, 1]})
    with pytest.raises(ValueError):
        interactive.widget.children[0].value = 1
    assert 'role="alert">ValueError: x is float32 array' in figure(interactive).value
    interactive.widget.children[0].value = 0
    assert shown(interactive)[2] == "one"


def no_figure(eps):
    return "nothing"


def two_figures(eps):
    plots.images(X[:1])
    plots.images(X[:1])
    return "two"


def no_sentence(eps):
    plots.images(X[:1])


@pytest.mark.parametrize(
    ("error", "words", "draw", "choices", "start"),
    [
        (ValueError, "draw(0,) left 0 figures: one", no_figure, {"ε": [0, 1]}, None),
        (ValueError, "draw(0,) left 2 figures: one", two_figures, {"ε": [0, 1]}, None),
        (TypeError, "draw(0,) returned NoneType", no_sentence, {"ε": [0, 1]}, None),
        (ValueError, "choices is", no_sentence, {}, None),
        (ValueError, "start=[None]", no_sentence, {"ε": []}, None),
        (ValueError, "start=[2]", no_sentence, {"ε": [0, 1]}, [2]),
        (ValueError, "start=[0, 1]", no_sentence, {"ε": [0, 1]}, [0, 1]),
    ],
)
def test_sliders_refuse(error, words, draw, choices, start):
    with pytest.raises(error, match=re.escape(words)):
        plots.sliders(draw, choices, start=start)
    assert plt.get_fignums() == []


def test_a_figure_leaves_the_interactive_mode_that_it_turned_on():
    """A notebook's first figure loads its back end; were the mode lost, a learner's own `plt.plot(...)` would show nothing."""

    @plots._figure
    def first():
        matplotlib.interactive(True)

    matplotlib.interactive(False)
    try:
        first()
        assert plt.isinteractive()
    finally:
        matplotlib.interactive(False)
