"""The audit: its rows are those of `evaluate`, its groups are AutoAttack's, and an interruption changes no bit."""

import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from advlib import auditing, data, evaluate, models, robustness
from advlib._tensorflow import keras, tf
from advlib.attacks import autoattack, fgsm, pgd
from advlib.auditing import CLEAN, SHARD, AuditReport, audit, nearest, stages
from advlib.diagnostics import Flag, FlagWarning
from advlib.report import check

N, EPS = 100, 0.05
QUICK = {"norm": "linf", "eps": EPS, "preset": "quick", "batch_size": 16}


@pytest.fixture(scope="module", autouse=True)
def undiagnosed():
    """The diagnosis has tests of its own, and one here: without it an audit takes a second instead of ten."""
    whole = auditing._diagnosis
    auditing._diagnosis = lambda *given: []
    yield whole
    auditing._diagnosis = whole


@pytest.fixture(scope="module")
def given():
    x, y = (part[:N] for part in data.load("mnist")[2:])
    return models.load("mnist-mlp"), x, y


@pytest.fixture(scope="module")
def report(given):
    return audit(*given, **QUICK)


def plain(report):
    """Everything but times, as JSON."""
    about = json.loads(report.to_json())
    for attack in about["attacks"].values():
        del attack["seconds"]
    del about["started"], about["seconds"]
    return about


def test_its_rows_are_those_of_evaluate(given, report):
    attacks = {
        "FGSM": partial(fgsm, eps=EPS, batch_size=16),
        "PGD-20": partial(pgd, eps=EPS, steps=20, batch_size=16),
    }
    direct = evaluate(*given, attacks, norm="linf", eps=EPS)
    assert report.fingerprint == direct.fingerprint
    assert (report.prediction == direct.prediction).all()
    for name in attacks:
        assert (report[name].prediction == direct[name].prediction).all()
        assert (report[name].size == direct[name].size).all()


def test_what_an_attack_of_a_group_broke_stays_broken(report):
    group = [report.broken(name) for name in ("APGD-CE", "+ APGD-T", "+ Square")]
    assert group[0].sum() > 0 and all((before <= after).all() for before, after in pairwise(group))


@pytest.mark.full
def test_a_group_is_cumulative_and_autoattacks(given):
    """The last row of the standard preset leaves what autoattack leaves, image by image."""
    model, x, y = (given[0], *(part[:16] for part in given[1:]))
    report = audit(model, x, y, norm="linf", eps=0.03, preset="standard", batch_size=16)
    group = [name for name, about in report.settings["attacks"].items() if about["group"] == "AutoAttack"]
    assert group == ["APGD-CE", "+ APGD-T", "+ FAB-T", "+ Square"]
    broken = [report.broken(name) for name in group]
    assert all((before <= after).all() for before, after in pairwise(broken))
    x_adv = autoattack(model, x, y, eps=0.03, batch_size=16)
    assert (
        report.still_correct("+ Square") == (models.predict_logits(model, x_adv).argmax(axis=1) == y)
    ).all()
    assert 0 < report.still_correct("+ Square").sum() < 16


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("preset", ["quick", "standard", "thorough"])
def test_every_preset_has_names_costs_and_json(norm, preset):
    suite = stages(preset, norm=norm, eps=0.5, classes=3)
    assert len({stage.name for stage in suite}) == len(suite)
    assert all(stage.cost > 0 and json.dumps(stage.about()) for stage in suite)
    assert {stage.knows for stage in suite} == {"nothing", "gradient", "scores"}


def test_a_preset_is_what_it_says():
    quick, standard, thorough = (
        ", ".join(stage.name for stage in stages(preset, norm="linf", eps=0.1))
        for preset in ("quick", "standard", "thorough")
    )
    assert quick == "noise, FGSM, PGD-20, APGD-CE, + APGD-T, + Square"
    assert standard == "noise, FGSM, PGD-40, FMN, APGD-CE, + APGD-T, + FAB-T, + Square"
    assert "PGD-100×10, FMN, APGD-CE" in thorough and len(thorough) > len(standard)


@pytest.mark.parametrize("preset", ["quick", "standard", "thorough"])
def test_all_random_numbers_hang_on_the_seed(preset):
    suite = stages(preset, norm="linf", eps=0.1, seed=7)
    without = [stage.name for stage in suite if stage.about()["parameters"].get("seed") != 7]
    assert without == ["FGSM"]  # which draws none


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_other_norms(given, norm):
    model, x, y = given
    eps = {"l2": 1.0, "l1": 8.0}[norm]
    report = audit(model, x[:40], y[:40], norm=norm, eps=eps, preset="quick", batch_size=16)
    assert 0 < report.robust_accuracy < report.clean_accuracy
    assert all(outcome.feasible.all() for outcome in report.outcomes.values())


def test_nearest_stays_within_its_budget(given):
    model, x, y = given
    x_adv = nearest(model, x, y, eps=0.02, norm="linf", steps=30)
    size = abs(x_adv - x).max(axis=(1, 2, 3))
    wrong = models.predict_logits(model, x_adv).argmax(axis=1) != y
    assert size.max() <= 0.02
    assert (wrong | (size == 0)).all() and (wrong & (size > 0)).any()


# --- interruptions


def test_interrupted_and_resumed_the_same_bits(given, report, tmp_path):
    """Ctrl-C after every few units, until it is done."""
    interrupted, done = 0, None
    while done is None:
        seen = -5 * interrupted  # stored units are told of as well

        def stop(units, all_units, what, left):
            nonlocal seen
            seen += 1
            if seen > 5:
                raise KeyboardInterrupt

        try:
            done = audit(*given, **QUICK, folder=tmp_path, resume=True, progress=stop)
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted >= 2
    assert plain(done) == plain(report)
    assert plain(AuditReport.from_json((tmp_path / "report.json").read_text(encoding="utf-8"))) == plain(
        report
    )
    assert not (tmp_path / "work").exists()


CHILD = """
import os, signal, sys
from advlib import data, models
from advlib.report import check
from advlib.auditing import audit
x, y = (part[:100] for part in data.load("mnist")[2:])
def kill(units, all_units, what, left):
    if units == 5:
        os.kill(os.getpid(), signal.SIGKILL)
audit(models.load("mnist-mlp"), x, y, norm="linf", eps=0.05, preset="quick", batch_size=16, folder=sys.argv[1], progress=kill)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_and_resumed_the_same_bits(given, report, tmp_path):
    killed = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "work").glob("*.npz"))) == 5
    (tmp_path / "work" / "000000-FGSM.npz").write_bytes(b"half a file")  # is computed again
    with pytest.raises(FileExistsError, match="resume it"):
        audit(*given, **QUICK, folder=tmp_path)
    with pytest.raises(ValueError, match="with another eps"):
        audit(*given, **QUICK | {"eps": 0.06}, folder=tmp_path, resume=True)
    assert plain(audit(*given, **QUICK, folder=tmp_path, resume=True)) == plain(report)


def test_a_full_disk_says_what_to_do(given, tmp_path, monkeypatch):
    from pathlib import Path

    write, count = Path.write_bytes, 0

    def full(path, content):
        nonlocal count
        count += 1
        if count > 4:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as caught:
        audit(*given, **QUICK, folder=tmp_path)
    assert "resume" in caught.value.__notes__[0]
    assert len(list((tmp_path / "work").glob("*.npz"))) == 3


def test_the_fingerprint_of_a_model_is_no_matter_of_names(given):
    """The same network, built later in the process, has other layer numbers; other weights are another network."""
    again = models.load("mnist-mlp")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert auditing._weights(models.load("mnist-mlp")) == auditing._weights(again)
    again.layers[-1].bias.assign_add([1e-3] * 10)
    assert auditing._weights(models.load("mnist-mlp")) != auditing._weights(again)


# --- models that misbehave


def test_a_model_that_raises_on_some_images(given):
    net, x, y = given

    def model(z):
        if (np.asarray(z)[:, 0, 0, 0] > 0.9).any():
            raise RuntimeError("a white corner")
        return net(z)

    x = x[:12].copy()
    x[[3, 7], 0, 0] = 1.0
    report = audit(model, x, y[:12], norm="linf", eps=0.05, preset="quick", batch_size=16)
    flags = {flag.name: flag for flag in report.flags}
    assert "raised on 2 images: RuntimeError: a white corner" in flags["clean: raised an error"].seen
    assert flags["clean: raised an error"].colour == "red"
    assert set(np.flatnonzero(report.prediction == -1)) == {3, 7}
    others = np.delete(np.arange(12), [3, 7])
    assert (report.prediction[others] == models.predict_logits(net, x[others], 16).argmax(axis=1)).all()
    assert 0 < report.accuracy("PGD-20") < report.clean_accuracy


def test_an_attack_that_raises_leaves_the_others(given, monkeypatch):
    from advlib import attacks

    def square(model, x, y, **options):
        raise MemoryError("too much")

    monkeypatch.setattr(attacks, "square", square)
    report = audit(given[0], given[1][:40], given[2][:40], **QUICK)
    flag = next(flag for flag in report.flags if flag.name == "+ Square: raised an error")
    assert flag.colour == "red" and "MemoryError: too much" in flag.seen
    assert (report.still_correct("+ Square") == report.still_correct("+ APGD-T")).all()


def test_nan_is_not_correct(given):
    net, x, y = given
    x = x[:40].copy()
    x[5, 0, 0] = 1.0

    @tf.function
    def model(z):
        return tf.where(z[:, :1, 0, 0] > 0.9, np.nan, 1.0) * net(z)

    report = audit(model, x, y[:40], norm="linf", eps=0.05, preset="quick", batch_size=16)
    assert not report.still_correct(CLEAN)[5]
    assert any(flag.name == "the model returned NaN" and flag.colour == "red" for flag in report.flags)


def test_what_all_images_show_takes_the_place_of_what_a_few_showed(given, monkeypatch):
    net, x, y = given
    model = lambda z: np.where(np.arange(len(z))[:, None] == 5, np.nan, net(z))  # noqa: E731
    few = lambda *given: [robustness._flag_nan("no class for 1 of 2 images")]  # noqa: E731
    monkeypatch.setattr(auditing, "_diagnosis", few)
    report = audit(model, x[:16], y[:16], **QUICK)
    seen = [flag.seen for flag in report.flags if flag.name == "the model returned NaN"]
    assert "clean: no class for 1 of 16 images" in seen and "no class for 1 of 2 images" not in seen


def test_the_curve_of_an_audit_shows_no_flags(given):
    net, x, y = given
    x = x[:8].copy()
    x[5, 0, 0] = 1.0
    model = tf.function(lambda z: tf.where(z[:, :1, 0, 0] > 0.9, np.nan, 1.0) * net(z))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FlagWarning)
        assert len(auditing._curve(model, x, y[:8], "linf", EPS, 0, 8)) > 2


def test_softmax_is_converted_and_said(given):
    net, x, y = given
    model = keras.Sequential([keras.Input((28, 28, 1)), net, keras.layers.Softmax()])
    report = audit(model, x[:40], y[:40], **QUICK)
    assert "probabilities" in report.model["notes"][0]
    assert (report["PGD-20"].prediction == audit(net, x[:40], y[:40], **QUICK)["PGD-20"].prediction).all()


def test_random_models_are_recognised(given):
    net, x, y = given

    @tf.function
    def model(z):
        return net(z + tf.random.normal(tf.shape(z), stddev=0.05))

    report = audit(model, x[:20], y[:20], **QUICK | {"preset": "quick"})
    assert report.settings["random"]


# --- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0}, "a budget above 0"),
        ({"eps": 8.0}, "an L∞ budget"),
        ({"norm": "l0"}, "norm='l0'"),
        ({"preset": "fast"}, "preset='fast'"),
        ({"limit": 0}, "limit=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_settings(given, change, message):
    with pytest.raises(ValueError, match=message):
        audit(*given, **QUICK | change)


def test_bad_data(given):
    model, x, y = given
    with pytest.raises(TypeError, match="float32 pixels"):
        audit(model, (255 * x).astype(np.uint8), y, **QUICK)
    with pytest.raises(ValueError, match="labels from 0 to 10"):
        audit(model, x, np.where(np.arange(N) == 3, 10, 0), **QUICK)
    with pytest.raises(ValueError, match="answers none of the first"):
        audit(lambda z: 1 / 0, x, y, **QUICK)


def test_json_is_of_the_schema_round_trips_and_garbage_is_refused(report):
    check(json.loads(report.to_json()))
    again = AuditReport.from_json(report.to_json())
    assert again == report and again.to_json() == report.to_json()
    text = report.to_json()
    for bad in ("", "[]", "{}", text[: len(text) // 2], text.replace('"version": 1', '"version": 9'), "null"):
        with pytest.raises(ValueError, match=r"no report of an audit .* report\.json was expected"):
            AuditReport.from_json(bad)


def test_names_that_are_no_utf8_are_published(report, tmp_path):
    """What Linux makes of a folder's name in Latin-1."""
    name = "caf\udce9"
    named = replace(report, data=report.data | {"source": name, "label_names": [name] * 10})
    auditing.Store(tmp_path, {}, resume=False).publish(named)
    written = AuditReport.from_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written.data["source"] == "caf?" and written.data["label_names"] == ["caf?"] * 10
    assert "caf?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_size_that_is_no_number_stays_none(report):
    changed = AuditReport.from_json(report.to_json())
    changed["FGSM"].size[3] = np.nan
    again = AuditReport.from_json(changed.to_json())
    assert again == changed and np.isnan(again["FGSM"].size[3]) and again != report


def test_the_worst_colour_of_its_flags(report):
    flags = [Flag(colour, "a", "b", "c", "d") for colour in ("amber", "red", "green")]
    found = [replace(report, flags=some).worst for some in (flags, flags[::2], flags[2:], [])]
    assert found == ["red", "amber", "green", "green"]


def test_data_larger_than_memory_is_read_in_slices(given, report):
    """What is handed over is never asked for more than a shard at a time."""
    model, x, y = given

    class Lazy:
        largest = 0

        def __len__(self):
            return len(x)

        def __getitem__(self, part):
            found = x[part]
            Lazy.largest = max(Lazy.largest, len(found))
            return found

    assert plain(audit(model, Lazy(), y, **QUICK)) == plain(report)
    assert Lazy.largest <= SHARD * QUICK["batch_size"]


def test_the_least_broken_are_the_smallest(given):
    model, x, y = given
    report = audit(model, x[:40], y[:40], norm="linf", eps=0.1, preset="standard", batch_size=16)
    sizes = [shown["size"] for shown in report.least]
    assert sizes == sorted(sizes) and len(sizes) == 12
    smallest = np.sort(np.nanmin([report.sizes(name) for name in report.outcomes], axis=0))[:12]
    np.testing.assert_allclose(sizes, smallest, rtol=0, atol=1e-7)
    assert all(shown["x_adv"].startswith("data:image/png;base64,") for shown in report.least)


def test_a_whole_audit_has_its_flags(given, undiagnosed, monkeypatch):
    """With the diagnosis: each check once, a red flag for test images among the training images, and no other red one."""
    monkeypatch.setattr(auditing, "_diagnosis", undiagnosed)
    model, x, y = given
    report = audit(model, x[:40], y[:40], **QUICK, train=x[20:60])
    colours = {flag.name: flag.colour for flag in report.flags}
    assert len(report.flags) > 15 and "diagnosis incomplete" not in colours
    red = [name for name, colour in colours.items() if colour == "red"]
    assert any("training data" in name for name in red)
    assert len(red) <= 2, red  # the other: 40 images are too few for a claim
    assert report.curve[0]["correct"] / report.curve[0]["n"] > 0.5 and report.curve[-1]["correct"] < 5


def test_training_images_are_looked_for_in_all_of_x(given):
    net, x, y = given
    report = audit(net, x, y, norm="linf", eps=0.05, preset="quick", train=x[len(x) // 2 :], batch_size=24)
    flag = next(flag for flag in report.flags if flag.name == "evaluated on training data")
    assert flag.colour == "red" and f" of {len(x)} images" in flag.seen


def test_labels_of_other_images_are_refused(given):
    net, x, y = given
    with pytest.raises(ValueError, match="one label an image"):
        audit(net, x, np.concatenate([y, y]), norm="linf", eps=0.05, preset="quick")


def test_numpy_numbers_and_tensors_are_taken(given):
    net, x, y = given
    plain = audit(net, x[:8], y[:8], norm="linf", eps=0.05, preset="quick", seed=3, limit=8)
    other = audit(
        net,
        tf.constant(x[:8]),
        y[:8],
        norm="linf",
        eps=0.05,
        preset="quick",
        seed=np.int64(3),
        limit=np.int64(8),
    )
    assert other.robust_accuracy == plain.robust_accuracy
    assert json.loads(other.to_json())["settings"] == json.loads(plain.to_json())["settings"]


def test_a_model_without_gradients_is_audited_with_its_progress_shown(given):
    net, x, y = given
    said = []
    report = audit(
        lambda v: net(v).numpy(),
        x[:8],
        y[:8],
        norm="linf",
        eps=0.05,
        preset="quick",
        progress=lambda *a: said.append(a),
    )
    assert any(flag.colour == "red" for flag in report.flags) and said and said[0][3] is None


def test_a_finished_report_is_not_replaced(given, tmp_path):
    net, x, y = given
    audit(net, x[:8], y[:8], norm="linf", eps=0.05, preset="quick", folder=tmp_path / "a")
    before = (tmp_path / "a" / "report.json").read_bytes()
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="finished audit"):
            audit(
                net, x[:8], y[:8], norm="linf", eps=0.1, preset="quick", folder=tmp_path / "a", resume=resume
            )
    assert (tmp_path / "a" / "report.json").read_bytes() == before


def test_an_image_without_an_answer_hides_no_probabilities(given):
    net, x, _ = given
    soft = models.predict_logits(net, x)
    soft = np.exp(soft - soft.max(axis=1, keepdims=True))
    soft /= soft.sum(axis=1, keepdims=True)
    soft[0] = np.nan
    with pytest.raises(models.ProbabilitiesNotLogitsError):
        models.predict_logits(lambda v: soft[: len(v)], x)
