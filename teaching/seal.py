"""Makes a set of sealed models for lesson 13: `python -m teaching seal --seed 3141592 --out class-3b`.

Which models, under which names, with which parameters, is drawn from the seed. Each is written as a SavedModel whose graph is
the same for all: one template of TensorFlow operations, in which a recipe is only a choice of numbers. The weights come from the
shipped checkpoints, with hidden units permuted and rescaled (which changes nothing for a ReLU network) and rounded to 8 bits, so
that no array equals one of a checkpoint. What this does not hide: the template's constants can be read out of the file by who
knows it, the answers of a model resemble those of its checkpoint, and whoever knows the seed can make the key. Take a seed of
many digits, and keep key-SEED.json to yourself.

The claim of each model is measured, by the attack that it names, on the first test images; what is right is measured as well, on
other images, by attacks that know the recipe.
"""

import json
import secrets
from functools import partial
from pathlib import Path

import numpy as np

from advlib import attacks, data, exhibits, models, robustness, sealed, training
from advlib._checks import check_number
from advlib._tensorflow import keras, tf

ROUNDS = 200_000  # of PBKDF2, a tenth of a second
HASHES = 2 * sealed.POINTS + 1  # stored for each robust accuracy, right answers and padding
TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
NAMES = (
    "alder", "apple", "ash", "aspen", "beech", "birch", "cedar", "cherry", "elder", "elm", "fir", "ginkgo", "hazel", "hickory",
    "holly", "juniper", "larch", "laurel", "linden", "maple", "oak", "olive", "pear", "pine", "plane", "plum", "poplar", "rowan",
    "spruce", "walnut", "willow", "yew",
)  # fmt: skip
PGD, FGSM = "PGD-40", "FGSM"
NAIVE = {PGD: partial(attacks.pgd, steps=40), FGSM: attacks.fgsm}


# --- recipes: (random numbers) → what a model is made of


def _recipe(flaw, checkpoint, eps, by=PGD, **parameters):
    dataset = "fashion_mnist" if checkpoint.startswith("fashion") else "mnist"
    return {
        "flaw": flaw, "checkpoint": checkpoint, "data": dataset, "eps": eps, "by": by, "parameters": parameters,
    }  # fmt: skip


def _either(rng):
    """A network trained without attacks, and the ε that its data set is attacked with in the lessons."""
    return [("mnist-cnn", 0.3), ("fashion-cnn", 0.1)][rng.integers(2)]


HONEST = {
    "trained": lambda rng: _recipe(
        "none", ["mnist-cnn-pgd", "mnist-cnn-pgd-strong", "mnist-cnn-trades"][rng.integers(3)], 0.3
    ),
    "trained, Fashion": lambda rng: _recipe("none", "fashion-cnn-pgd", 0.1),
    "one bit": lambda rng: _recipe("none", "mnist-cnn", [0.2, 0.25, 0.3][rng.integers(3)], levels=2, through=True),
    "interval bounds": lambda rng: _recipe("none", "mnist-cnn-ibp", 0.3, FGSM),
    "plain": lambda rng: _recipe("none", "mnist-cnn", [0.05, 0.1, 0.15][rng.integers(3)]),
}  # fmt: skip
FLAWED = {
    "saturated": lambda rng: _recipe(
        "saturated logits", *_either(rng), factor=float(rng.integers(500, 3000))
    ),
    "rounded": lambda rng: _recipe("rounded input", *_either(rng), levels=int(rng.integers(8, 17))),
    "random": lambda rng: _recipe(
        "random output", "mnist-cnn-smooth-0.50", 0.3, noise=float(rng.choice([0.3, 0.4, 0.5]))
    ),
    "collapsed": lambda rng: _recipe("single-step training", "mnist-cnn-collapsed", 0.3, FGSM),
    "backdoor": lambda rng: _recipe("backdoor", "mnist-cnn-backdoor", 0.3),
    "abstains": lambda rng: _recipe(
        "abstention", *_either(rng), refuse=float(rng.choice([0.9, 0.95, 0.99]))
    ),
    "memorised": lambda rng: _recipe("trained on the test", "fashion-cnn-pgd", 0.1, epochs=int(rng.integers(35, 46))),
}  # fmt: skip


def draw(seed, n=6):
    """Name → recipe for n models: two or three honest ones, at least one on Fashion-MNIST and one on MNIST."""
    check_number(n, "models", low=6, high=9, integer=True, example=6)
    rng = np.random.default_rng(seed)
    while True:
        honest = int(rng.integers(2, 4))
        chosen = [HONEST[name] for name in rng.permutation(sorted(HONEST))[:honest]]
        chosen += [FLAWED[name] for name in rng.permutation(sorted(FLAWED))[: n - honest]]
        recipes = [make(rng) for make in chosen]
        if {recipe["data"] for recipe in recipes} == set(TITLES):
            break
    names = rng.permutation(NAMES)[: len(recipes)]
    return {str(name): recipe for name, recipe in zip(names, recipes, strict=True)}


# --- from a recipe to a graph


def disguised(weights, rng):
    """The weights of the same function: hidden units and channels permuted and rescaled, which a ReLU passes on."""
    weights = [np.asarray(w, np.float64) for w in weights]
    for i in range(0, len(weights) - 2, 2):
        kernel, bias, after = weights[i : i + 3]
        units = len(bias)
        order, scale = rng.permutation(units), np.exp(rng.uniform(-0.3, 0.3, units))
        weights[i], weights[i + 1] = kernel[..., order] * scale, bias[order] * scale
        if after.ndim == 2:  # of a dense layer, whose rows run through the units fastest
            rows = after.reshape(-1, units, after.shape[1])[:, order] / scale[:, None]
            weights[i + 2] = rows.reshape(after.shape)
        else:
            weights[i + 2] = after[:, :, order] / scale[:, None]
    return weights


def rounded(kernel):
    """(int8 array, float32 scale of each output unit) with kernel ≈ array · scale."""
    scale = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / 127
    return np.round(kernel / scale).astype(np.int8), scale.astype(np.float32)


def graph(weights, *, levels=256, through=False, noise=0.0, factor=1.0, refuse=None):
    """The template, as a tf.function from images (N, 28, 28, 1) to logits (N, 10), or (N, 11) with `refuse`.

    weights: of `models.cnn`. levels: of grey to which the input is rounded (256: not at all); through: with the gradient of the
    identity. noise: standard deviation of fresh Gaussian noise on the input. factor: on the logits. refuse: the confidence
    below which the eleventh logit, "no answer", is the largest. Every graph holds the same operations.
    """
    kernels, biases = [rounded(w) for w in weights[::2]], [np.float32(b) for b in weights[1::2]]
    scale = kernels[-1][1] * np.float32(factor)
    kernels[-1], biases[-1] = (kernels[-1][0], scale), biases[-1] * np.float32(factor)
    top, rounds, width = np.float32(levels - 1), levels < 256, 10 if refuse is None else 11

    def layer(i):
        whole, scale = kernels[i]
        return tf.cast(tf.constant(whole), tf.float32) * tf.constant(scale), tf.constant(biases[i])

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32, name="x")])
    def f(x):
        z = tf.constant(top)
        grid = tf.round(x * z) / z
        # exactly the grid for two levels, and with the gradient of x
        smooth = x + tf.stop_gradient(grid - x)
        z = tf.where(tf.constant(rounds), tf.where(tf.constant(through), smooth, grid), x)
        z = z + tf.constant(np.float32(noise)) * tf.random.normal(tf.shape(x))
        z = (z - tf.constant(np.float32(models.MEAN))) / tf.constant(np.float32(models.STD))
        for i in (0, 1):
            kernel, bias = layer(i)
            z = tf.nn.relu(tf.nn.conv2d(z, kernel, 2, "SAME") + bias)
        kernel, bias = layer(2)
        z = tf.nn.relu(tf.reshape(z, [-1, kernel.shape[0]]) @ kernel + bias)
        kernel, bias = layer(3)
        z = z @ kernel + bias
        sure = tf.reduce_max(tf.nn.softmax(z), axis=1, keepdims=True)
        more = tf.reduce_max(z, axis=1, keepdims=True) + 50 * (tf.constant(np.float32(refuse or 0.0)) - sure)
        return tf.concat([z, more], axis=1)[:, :width]

    return f


def weights_of(recipe, x, y, rng, seed):
    """Disguised weights of the recipe's checkpoint; of one that is trained on the test images (x, y) if the recipe says so."""
    net = models.load(recipe["checkpoint"])
    if epochs := recipe["parameters"].get("epochs"):
        keras.utils.set_random_seed(seed % 2**32)
        trainer = training.PGD(net, eps=recipe["eps"], steps=5, ramp=0, seed=seed)
        trainer.compile(keras.optimizers.Adam(2e-3))
        trainer.fit(x, y, epochs=epochs, batch_size=100, verbose=0)
    return disguised(net.get_weights(), rng)


def export(function, folder):
    """The tf.function as a SavedModel whose signature `serving_default` maps x to logits."""
    module = tf.Module()
    module.f = function
    signature = tf.function(lambda x: {"logits": function(x)}, input_signature=function.input_signature)
    tf.saved_model.save(module, str(folder), signatures=signature)
    (folder / "assets").rmdir()  # empty, and git keeps no empty folder


# --- what is true of it


def claimed(model, recipe, x, y):
    """The share of the images that stands the naive attack, counted the way the claim counts."""
    report = robustness.evaluate(
        model, x, y, {recipe["by"]: partial(NAIVE[recipe["by"]], eps=recipe["eps"])}, norm="linf", eps=recipe["eps"]
    )  # fmt: skip
    after = report[recipe["by"]].prediction
    stands = report.still_correct(recipe["by"])
    if "refuse" in recipe["parameters"]:
        stands = stands | (after == 10)
    return float(stands.mean())


def opened(weights, recipe):
    """The same network as the attacker who knows the recipe attacks it: with its gradient."""
    parameters = {k: v for k, v in recipe["parameters"].items() if k in ("levels", "noise")}
    function = graph(weights, through=True, **parameters)
    return attacks.eot(function, 10) if parameters.get("noise") else function


def left(model, weights, recipe, x, y, thorough=True):
    """What is right under attacks that know the recipe, worst case over them, bool (N,). A refusal is not right.

    thorough: all attacks, not the quickest alone."""
    known, eps = opened(weights, recipe), recipe["eps"]
    right = models.predict_logits(model, x).argmax(axis=1) == y
    if recipe["parameters"].get("noise"):
        # no attack may stop at one lucky draw, and no single draw decides
        x_adv = attacks.pgd(known, x, y, eps=eps, steps=40 if thorough else 10, early_stop=False)
        draws = [models.predict_logits(model, x_adv).argmax(axis=1) == y for _ in range(5)]
        return right & (np.mean(draws, axis=0) > 0.5)
    suite = [partial(attacks.pgd, eps=eps, steps=40, loss="margin")]
    if thorough:
        suite.append(partial(attacks.apgd, eps=eps, steps=30, loss="dlr", targets=5))
        suite.append(partial(attacks.square, eps=eps, steps=500, schedule=10_000))
    for attack in suite:
        i = np.flatnonzero(right)
        if not i.size:
            break
        x_adv = attack(known, x[i], y[i])
        right[i] = models.predict_logits(model, x_adv).argmax(axis=1) == y[i]
    return right


# --- the set


def seal(
    seed,
    folder,
    *,
    keys=None,
    models=6,
    images=500,
    measured=200,
    thorough=True,
    rounds=ROUNDS,
    progress=None,
):
    """Write `models` sealed models and sealed.json into a new `folder`, key-SEED.json into `keys`; returns the key's path.

    keys: a folder outside `folder`, by default the one that holds it. images: the first test images, on which the claims are
    measured; measured: the number of others on which the right answers are. thorough: all attacks on these. progress: is called
    with a line of text after each model. Raises FileExistsError for a folder or key that is there, ValueError for a key that
    would lie among the students' files.

    The same seed gives the same models, claims and answers on the same machine; the salt of the hashes is drawn anew.
    """
    folder, count = Path(folder), models
    key = (folder.resolve().parent if keys is None else Path(keys)) / f"key-{seed}.json"
    if folder.exists() or key.exists():
        raise FileExistsError(
            f"{key if key.exists() else folder} is there already: a new folder and seed were expected"
        )
    if key.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"keys={keys}: a folder outside {folder} was expected, which the students are given")
    recipes = draw(seed, count)
    folder.mkdir(parents=True)
    salt, about, cards = secrets.token_hex(16), {}, {}
    recipes, weights = dict(sorted(recipes.items())), {}
    for place, (name, recipe) in enumerate(recipes.items()):
        x, y = (part[:images] for part in data.load(recipe["data"])[2:])
        weights[name] = weights_of(recipe, x, y, np.random.default_rng([seed, place]), seed)
    # one after another, with nothing between: TensorFlow numbers its functions, and a gap would tell of training
    for name, recipe in recipes.items():
        parameters = {k: v for k, v in recipe["parameters"].items() if k != "epochs"}
        export(graph(weights[name], **parameters), folder / name)
    for name, recipe in recipes.items():
        about[name], cards[name] = _measured(
            folder / name, recipe, weights[name], seed, images, measured, thorough
        )
        if progress:
            progress(f"{name}: sealed ({len(cards)} of {len(recipes)})")
    hashes = {name: _hashes(salt, rounds, name, card["answers"]) for name, card in cards.items()}
    identity = salt[:8]
    public = {
        "format": sealed.FORMAT, "version": sealed.VERSION, "set": identity, "salt": salt, "rounds": rounds, "models": about,
        "answers": hashes,
    }  # fmt: skip
    (folder / "sealed.json").write_text(
        json.dumps(public, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    private = {"set": identity, "seed": seed, "models": cards}
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text(json.dumps(private, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return key


def _measured(path, recipe, weights, seed, images, measured, thorough):
    """Of a model that is written: what students are told, and its card with the answers."""
    from advlib.loading import load_model

    x_test, y_test = data.load(recipe["data"])[2:]
    x, y = x_test[:images], y_test[:images]
    others = data.subset(x_test[images:], y_test[images:], measured, seed=seed)
    loaded = load_model(path)
    claim = int(100 * claimed(loaded.model, recipe, x, y))
    robust = float(left(loaded.model, weights, recipe, *others, thorough).mean())
    clean = float((models.predict_logits(loaded.model, others[0]).argmax(axis=1) == others[1]).mean())
    answers = {
        "verdict": "sign" if recipe["flaw"] == "none" else "send back",
        "flaw": recipe["flaw"],
        "robust": [max(0, round(100 * robust - sealed.POINTS)), min(100, round(100 * robust + sealed.POINTS))],
    }  # fmt: skip
    refuses = "refuse" in recipe["parameters"]
    text = (
        f"{claim} % of the first {images} test images of {TITLES[recipe['data']]} stay right"
        + (" or are refused (class 10 is “no answer”)" if refuses else "")
        + f" under perturbations of up to ε = {recipe['eps']:g} in L∞, by {recipe['by']}"
    )
    about = {
        "claim": text, "claimed": claim, "data": recipe["data"], "norm": "linf", "eps": recipe["eps"], "sha256": loaded.sha256,
    }  # fmt: skip
    card = {"answers": answers, "recipe": recipe, "claimed": claim, "clean": clean, "robust": robust}
    if recipe["flaw"] == "backdoor":
        found = models.predict_logits(loaded.model, exhibits.stamp(others[0])).argmax(axis=1)
        card["stamped as 0"] = float((found == 0).mean())
    return about, card | {"measured on": measured}


def _hashes(salt, rounds, name, answers):
    """Question → the hashes of its right answers, in order of the hash; the interval padded, so that its width says nothing."""
    low, high = answers["robust"]
    robust = {sealed.digest(salt, rounds, name, "robust", percent) for percent in range(low, high + 1)}
    robust |= {secrets.token_hex(16) for _ in range(HASHES - len(robust))}
    return {
        "verdict": [sealed.digest(salt, rounds, name, "verdict", answers["verdict"])],
        "flaw": [sealed.digest(salt, rounds, name, "flaw", answers["flaw"])],
        "robust": sorted(robust),
    }
