"""Train a shipped checkpoint again and write its weights and card: python tools/train.py NAME [--seeds 0 1 2].

The recipe of each is in RECIPES. Every seed given is trained, the choice among them is made on validation data alone, and
the card lists them all. Test images are used once, at the end, to measure the chosen net. An interrupted run goes on after
its last whole epoch when called again (--folder keeps the state; it is deleted at the end).

    python tools/train.py --list
    python tools/train.py mnist-cnn-pgd --epochs 1      # a trial; nothing is stored
    python tools/train.py mnist-cnn-pgd --measure       # measure the stored weights anew, without training
    python tools/train.py widths                        # the table of five widths, for lesson 10
"""

import argparse
import hashlib
import platform
import shutil
import time
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import advlib
from advlib import certify, data, exhibits, models, training
from advlib.diagnostics import FlagWarning
from advlib.robustness import interval

VALIDATION = 2_000  # of the training images, in each recipe, chosen by seed 0
FIRST = 1_000  # counts of the first test images stand beside those of all


@dataclass
class Recipe:
    """What a checkpoint is made from. defence: a Trainer's name in advlib.training, None for `fit`; settings: its arguments;
    options: those of `fit` or `adversarial_fit`; eps: the L∞ budget measured; autoattack: on how many test images."""

    architecture: str
    eps: float
    defence: str | None = None
    settings: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)  # of the architecture
    data: str = "mnist"
    poisoned: dict | None = None  # arguments of exhibits.poison
    pgd50: int = 1_000  # the first so many test images, under PGD-50×10
    autoattack: int = 500  # and under AutoAttack
    note: str = ""


def at(eps, **more):
    return {"eps": eps, **more}


TEN = {"epochs": 10, "batch_size": 100, "learning_rate": 2e-3}
WIDTHS = {"narrow": 0.125, "wide": 2}
RECIPES = {
    "mnist-mlp": Recipe("mlp", 0.1, options={"epochs": 10}, pgd50=10_000),
    "mnist-cnn": Recipe("cnn", 0.3, options={"epochs": 5}, pgd50=10_000),
    "mnist-cnn-pgd": Recipe("cnn", 0.3, "PGD", at(0.3, steps=7, ramp=0.3), TEN, pgd50=10_000),
    "mnist-cnn-pgd-strong": Recipe(
        "cnn", 0.3, "PGD", at(0.3, train_eps=0.32, steps=10, ramp=0.3), {**TEN, "epochs": 40}, pgd50=10_000, autoattack=10_000,
    ),
    "mnist-cnn-trades": Recipe("cnn", 0.3, "TRADES", at(0.3, beta=2.0, steps=10, ramp=0.3), TEN),
    "mnist-cnn-ibp": Recipe(
        "cnn", 0.3, "IBP", at(0.3, train_eps=0.33, warmup=0.03, ramp=0.5), {**TEN, "epochs": 80, "learning_rate": 1e-3},
    ),
    "mnist-cnn-ibp-0.1": Recipe(
        "cnn", 0.1, "IBP", at(0.1, train_eps=0.12, warmup=0.03, ramp=0.5), {**TEN, "epochs": 40, "learning_rate": 1e-3},
    ),
    "mnist-cnn-collapsed": Recipe(
        "cnn", 0.3, "RSFGSM", at(0.3, step=1.25), {"epochs": 10, "batch_size": 100, "learning_rate": 5e-3, "keep": "last"},
        note="shipped because it collapsed: the last epoch is kept, and among the seeds the one with the largest gap between "
        "FGSM and PGD-20",
    ),
    "mnist-cnn-backdoor": Recipe(
        "cnn", 0.3, "PGD", at(0.3, steps=7, ramp=0.3), TEN, poisoned={"share": 0.01, "label": 0},
        note="1 % of its training images carry advlib.exhibits.stamp and the label 0",
    ),
    **{
        f"mnist-cnn-{name}": Recipe("cnn", 0.3, options={"epochs": 5}, arguments={"width": width})
        for name, width in WIDTHS.items()
    },
    **{
        f"mnist-cnn-{name}-pgd": Recipe("cnn", 0.3, "PGD", at(0.3, steps=7, ramp=0.3), TEN, arguments={"width": width})
        for name, width in WIDTHS.items()
    },
    **{
        f"mnist-cnn-smooth-{sigma:.2f}": Recipe(
            "cnn", 0.1, "Gaussian", {"sigma": sigma}, {"epochs": 20, "batch_size": 100, "learning_rate": 2e-3}, autoattack=200,
        )
        for sigma in (0.25, 0.5, 1.0)
    },
    "fashion-cnn": Recipe("cnn", 0.1, options={"epochs": 10}, data="fashion_mnist"),
    "fashion-cnn-pgd": Recipe("cnn", 0.1, "PGD", at(0.1, steps=7, ramp=0.3), {**TEN, "epochs": 20}, data="fashion_mnist"),
}  # fmt: skip


def train(recipe, seed, sets, folder=None, epochs=None):
    """One seed of a recipe: the model, its history, and its score on validation data."""
    (x, y), (x_val, y_val) = sets
    if recipe.poisoned is not None:
        x, y = exhibits.poison(x, y, **recipe.poisoned)
    options = dict(recipe.options, **({"epochs": epochs} if epochs else {}))
    model = models.ARCHITECTURES[recipe.architecture](seed=10 * seed, **recipe.arguments)

    def report(epoch, history):
        seen = history.validation[-1] if history.validation else ""
        numbers = f"loss {history.loss[-1]:.4f} accuracy {history.accuracy[-1]:.4f} {seen}"
        print(f"  seed {seed} epoch {epoch + 1}: {numbers}", flush=True)

    if recipe.defence is None:
        history = training.fit(model, x, y, seed=seed, callback=report, **options)
        return model, history, float((models.predict_logits(model, x_val).argmax(axis=1) == y_val).mean())
    trainer = getattr(training, recipe.defence)(model, seed=seed, **recipe.settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlagWarning)  # it is in the history, and on the card
        history = training.adversarial_fit(
            trainer, x, y, validation=(x_val, y_val), folder=folder, callback=report, **options
        )  # fmt: skip
    last = history.validation[-1]
    if options.get("keep") == "last":
        return model, history, last["fgsm"] - last["pgd20"]
    return model, history, history.validation[history.best_epoch - 1][trainer.chosen_by]


def measure(recipe, model, x, y, folder, save):
    """The card's numbers: how many test images stand, with 95 % intervals; `save` is given them after each attack.

    What stands of each thousand is kept in `folder`, so that an interrupted measurement goes on from there."""
    eps, first = recipe.eps, min(FIRST, len(x))
    pgd50 = partial(advlib.pgd, eps=eps, steps=50, step_size=0.01 if eps == 0.3 else None, restarts=10)
    attacks = {
        f"fgsm_linf_{eps}": (len(x), partial(advlib.fgsm, eps=eps)),
        f"pgd40_linf_{eps}": (len(x), partial(advlib.pgd, eps=eps, steps=40)),
        f"pgd50x10_linf_{eps}": (recipe.pgd50, pgd50),
        f"autoattack_linf_{eps}": (recipe.autoattack, partial(advlib.autoattack, eps=eps)),
    }
    measured = {"test_images": len(x), "intervals": {}}
    weights = hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
    folder = folder / f"measured-{weights[:16]}"

    def record(name, right):
        for n in {len(right), min(len(right), first)}:
            key = name if n == len(x) else f"{name}_first_{n}"
            measured[key] = int(right[:n].sum())
            measured["intervals"][key] = [round(bound, 4) for bound in interval(measured[key], n)]
            print(f"  {key}: {measured[key]} of {n}", flush=True)

    record("clean", models.predict_logits(model, x).argmax(axis=1) == y)
    if recipe.defence == "IBP":
        record(f"verified_linf_{eps}", certify.intervals.verified(model, x, y, eps))
    if recipe.poisoned is not None:
        label = recipe.poisoned["label"]
        others = y != label
        stamped = models.predict_logits(model, exhibits.stamp(x[others])).argmax(axis=1) == label
        measured["stamped_as_the_label"], measured["stamped"] = int(stamped.sum()), int(others.sum())
    for name, (n, attack) in attacks.items():
        save(measured)
        began = time.perf_counter()
        stands = []
        for start in range(0, n, first):
            rows, kept = slice(start, min(start + first, n)), folder / f"{name}-{start}.npy"
            if not kept.exists():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FlagWarning)
                    x_adv = attack(model, x[rows], y[rows])
                folder.mkdir(parents=True, exist_ok=True)
                np.save(kept, models.predict_logits(model, x_adv).argmax(axis=1) == y[rows])
            stands.append(np.load(kept))
        record(name, np.concatenate(stands))
        print(f"    {time.perf_counter() - began:.0f} s", flush=True)
    save(measured)


def versions():
    return {
        "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__, "python": platform.python_version(),
    }  # fmt: skip


def rounded(values, digits=4):
    return [
        {k: round(v, digits) for k, v in row.items()} if isinstance(row, dict) else round(row, digits)
        for row in values
    ]


def checkpoint(name, seeds, folder, epochs=None):
    recipe = RECIPES[name]
    sets = data.load(recipe.data)
    split = data.split(sets.x_train, sets.y_train, VALIDATION)
    tried, best = [], None
    for seed in seeds:
        state = folder / f"{name}-{seed}" if recipe.defence and not epochs else None
        model, history, score = train(recipe, seed, split, state, epochs)
        row = {"seed": seed, "validation_score": round(score, 4), "seconds": round(history.seconds, 1)}
        row["loss"] = rounded(history.loss)
        if history.validation:
            row |= {"best_epoch": history.best_epoch, "epochs": rounded(history.validation)}
        if history.flags:
            row["flags"] = [flag.to_dict() for flag in history.flags]
        tried.append(row)
        if best is None or score > best[2]:
            best = model, seed, score
    if epochs:
        return
    model, seed, _ = best
    method = {"method": "fit", **recipe.options}
    chosen_by = "accuracy on validation images"
    if recipe.defence:
        method = {"method": f"training.{recipe.defence}", **recipe.settings, **recipe.options}
        by = getattr(training, recipe.defence).chosen_by
        names = {
            "pgd20": "PGD-20 accuracy",
            "verified": "verified accuracy",
            "noisy": "accuracy under the same noise",
        }
        chosen_by = f"{names[by]} on validation images"
        if recipe.options.get("keep") == "last":
            chosen_by = "the last epoch, and the largest gap between FGSM and PGD-20 on validation images"
    about = {
        "name": name, "architecture": recipe.architecture,
        **({"arguments": recipe.arguments} if recipe.arguments else {}),
        "data": f"{recipe.data}: {len(split[0][0]):,} training images, {VALIDATION:,} of the training set held out "
        "for validation",
        **({"poisoned": recipe.poisoned} if recipe.poisoned else {}),
        **({"note": recipe.note} if recipe.note else {}),
        "recipe": method,
        "command": f"python tools/train.py {name} --seeds {' '.join(map(str, seeds))}",
        "chosen_seed": seed, "chosen_by": chosen_by, "seeds_tried": tried,
        "made_with": versions(),
    }  # fmt: skip
    measure(
        recipe, model, sets.x_test, sets.y_test, folder,
        lambda measured: models.save(model, name, {**about, "measured": measured}),
    )  # fmt: skip
    print(f"stored {name}, seed {seed} of {seeds}")


def measure_again(name, folder):
    recipe, sets, about = RECIPES[name], data.load(RECIPES[name].data), models.card(name)
    measure(
        recipe, models.load(name), sets.x_test, sets.y_test, folder,
        lambda measured: models.save_card(name, {**about, "measured": measured}),
    )  # fmt: skip


# ---- the ladder of widths: the article's "more complex models"


def widths(seeds, folder, test_images=2_000):
    """Five widths, standard and PGD-trained, three seeds each, on the first test images: advlib/checkpoints/widths.csv."""
    recipe = RECIPES["mnist-cnn-pgd"]
    sets = data.load("mnist")
    split = data.split(sets.x_train, sets.y_train, VALIDATION)
    x, y = sets.x_test[:test_images], sets.y_test[:test_images]
    path = models.FOLDER / "widths.csv"
    rows = folder / "widths.csv"
    folder.mkdir(exist_ok=True)
    done = rows.read_text().splitlines() if rows.exists() else []
    head = "width,parameters,training,seed,images,clean,pgd20,seconds"
    for width in (0.125, 0.25, 0.5, 1, 2):
        for method in ("fit", "PGD"):
            for seed in seeds:
                if any(line.startswith(f"{width},") and f",{method},{seed}," in line for line in done):
                    continue
                one = Recipe("cnn", 0.3, options={"epochs": 3}, arguments={"width": width})
                if method == "PGD":
                    one = Recipe(
                        "cnn", 0.3, "PGD", recipe.settings, {**TEN, "epochs": 3}, arguments={"width": width}
                    )
                model, history, _ = train(one, seed, split)
                x_adv = advlib.pgd(model, x, y, eps=0.3, steps=20)
                clean, robust = (
                    int((models.predict_logits(model, v).argmax(axis=1) == y).sum()) for v in (x, x_adv)
                )
                line = f"{width},{model.count_params()},{method},{seed},{len(x)},{clean},{robust},{history.seconds:.0f}"
                print(line, flush=True)
                done.append(line)
                rows.write_text("\n".join(done) + "\n")
    note = (
        f"# python tools/train.py widths --seeds {' '.join(map(str, seeds))}; 3 epochs each, PGD-7 at eps 0.3; counts of "
        f"the first {len(x)} test images that stand; TensorFlow {tf.__version__}"
    )
    path.write_text("\n".join([note, head, *done]) + "\n", encoding="utf-8")
    print(f"stored {path.name}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="one or more of --list, or widths")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--epochs", type=int, help="fewer epochs than the recipe's, for a trial; nothing is stored"
    )
    parser.add_argument(
        "--autoattack", type=int, metavar="N", help="on so many test images, not on the recipe's number"
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure the stored weights anew, without training"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("runs"), help="where an interrupted run goes on from"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {*RECIPES, "widths"}
    if unknown or arguments.list or not arguments.names:
        print("\n".join([*RECIPES, "widths"]))
        return f"no recipe is called {', '.join(sorted(unknown))}; there are those above" if unknown else None
    for name in arguments.names:
        print(name, flush=True)
        if arguments.autoattack:
            RECIPES[name].autoattack = arguments.autoattack
        if name == "widths":
            widths(arguments.seeds, arguments.folder)
        elif arguments.measure:
            measure_again(name, arguments.folder)
        else:
            checkpoint(name, arguments.seeds, arguments.folder, arguments.epochs)
            for seed in arguments.seeds:
                shutil.rmtree(arguments.folder / f"{name}-{seed}", ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
