"""The catalogue of faults for tools/mutate.py: realistic mistakes, each a small patch of one file of advlib.

A fault belongs to the public functions whose behaviour it changes: the function or class that holds the patched line, or, where
that is a part of another (`PARTS`), that one; for shared code the functions are named (`of`). `public()` lists the public
functions from the package's own `__all__`s, without importing it, so that a new function without faults is noticed.
"""

# ruff: noqa: E501 (one fault a line)
import ast
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "advlib"


@dataclass(frozen=True)
class Fault:
    """A realistic mistake: `old` becomes `new` in `file`. lessons, tests: where it is likeliest to be noticed, asked first.

    of: the public functions whose behaviour it changes, where the place of the patch does not say so."""

    name: str
    file: str
    old: str
    new: str
    lessons: tuple
    tests: tuple
    of: tuple = ()


def _in(file, lessons, tests, *rows):
    """Faults of one file, from rows (name, old, new) or (name, old, new, {what is otherwise: "words"})."""
    made = []
    for name, old, new, *other in rows:
        fault = Fault(name, file, old, new, tuple(lessons.split()), tuple(tests.split()))
        otherwise = {key: tuple(words.split()) for key, words in (other[0] if other else {}).items()}
        made.append(replace(fault, **otherwise))
    return made


# What looks public and is a part of another function, through which a user meets it.
PARTS = {
    "auditing.audit": "Stage Unit Store shard whole_shard attacked",
    "certify.crown.worst_margins": "dense_layers lower",
    "certify.intervals.bounds": "layers graph inputs no_chain kind propagate rounding largest widened affine terms product activation "
    "activation_name box",
    "certify.intervals.verified": "leads",
    "certify.lipschitz.constant": "convolution",
    "cluster.evaluate": "evaluate_shard each pack",
    "corruptions.corrupt": (
        "shot_noise impulse_noise glass_blur motion_blur shear scale rotate translate warp brightness fog plasma spatter "
        "dotted_line zigzag line stripe canny_edges"
    ),
    "data.load": "read",
    "diagnostics.collect_flags": "raise_flag",
    "loading.load_data": "Images",
    "loading.load_model": "import_module",
    "models.card": "names",
    "norms.Norm": "get column",
    "plots.sliders": "Sliders",
    "robustness.Report": "norm_label",
    "robustness.evaluate": "attach Facts join measure",
    "robustness.compare": "Comparison",
    "sealed.Set": "Sealed load digest",
    "testing.check_attack": "Rule toy",
    "training.adversarial_fit": "Triangle Watch batches",
    "training.fit": "order",
}

# Modules that are run, or called by notebooks alone; their faults are extra.
PROGRAMS = {"cli", "exercises", "nbplugin"}
# Public functions that share code.
_ASCENT = "attacks.pgd attacks.bim attacks.apgd attacks.mi_fgsm"
_MINIMAL = "attacks.carlini_wagner attacks.ddn attacks.deepfool attacks.fab attacks.fmn"
_DECISIONS = "attacks.boundary attacks.hop_skip_jump"
_NETS = "models.linear models.mlp models.cnn"
_NOISE = "noise.uniform noise.signs noise.gaussian"
_STEPS = "training.FGSM training.RSFGSM training.NFGSM training.GradAlign training.PGD training.TRADES"
_WEAKER = "diagnostics.black_box_beats_white_box diagnostics.random_search_wins diagnostics.single_step_beats_iterative"
_SHARES = (
    f"{_WEAKER} diagnostics.incomplete_optimisation diagnostics.unbounded_attack_fails diagnostics.not_at_chance "
    "diagnostics.evaluated_on_training_data"
)
_BARS = "plots.tradeoff plots.intervals plots.certified plots.confusion"

FAULTS = [
    # --- losses and norms
    *_in(
        "losses.py", "03 04", "losses",
        ("softmax-for-logits", "sparse_softmax_cross_entropy_with_logits(_labels(y), z)", "sparse_softmax_cross_entropy_with_logits(y, tf.nn.softmax(z))", {"lessons": "01 03"}),
        ("cross-entropy-in-bits", "sparse_softmax_cross_entropy_with_logits(_labels(y), z)", "sparse_softmax_cross_entropy_with_logits(_labels(y), z) / 0.6931472", {"lessons": "01 03"}),
        ("cross-entropy-over-the-batch", "sparse_softmax_cross_entropy_with_logits(_labels(y), z)", "sparse_softmax_cross_entropy_with_logits(_labels(y), z) / tf.cast(tf.shape(z)[0], z.dtype)", {"lessons": "01 03"}),
        ("margin-of-the-best", 'tf.where(is_y, tf.cast(-float("inf"), z.dtype), z)', "z", {"of": "losses.margin losses.margin_targeted losses.dlr"}),
        ("margin-sign", "return _largest_other(z, y) - _at(z, y)", "return _at(z, y) - _largest_other(z, y)"),
        ("margin-hinge", "return _largest_other(z, y) - _at(z, y)", "return tf.maximum(_largest_other(z, y) - _at(z, y), 0.0)"),
        ("dlr-over-first-and-second", "(top[:, 0] - top[:, 2] + 1e-12)", "(top[:, 0] - top[:, 1] + 1e-12)"),
        ("dlr-without-a-denominator", "return margin(z, y) / (top[:, 0] - top[:, 2] + 1e-12)", "return margin(z, y)"),
        ("dlr-over-the-largest", "(top[:, 0] - top[:, 2] + 1e-12)", "(tf.abs(top[:, 0]) + 1e-12)"),
        ("target-sign", "return -cross_entropy(z, t)", "return cross_entropy(z, t)"),
        ("target-is-the-label", "return -cross_entropy(z, t)", "return -cross_entropy(z, y)"),
        ("targeted-flees-the-label-too", "return -cross_entropy(z, t)", "return cross_entropy(z, y) - cross_entropy(z, t)"),
        ("targeted-margin-sign", "return _at(z, t) - _largest_other(z, t)", "return _largest_other(z, t) - _at(z, t)"),
        ("targeted-margin-to-the-label", "return _at(z, t) - _largest_other(z, t)", "return _at(z, t) - _at(z, y)"),
        ("targeted-dlr-sign", "return (_at(z, t) - _at(z, y)) /", "return (_at(z, y) - _at(z, t)) /"),
        ("targeted-dlr-third-alone", "(top[:, 2] + top[:, 3]) / 2", "top[:, 2]"),
        ("targeted-dlr-second-and-third", "(top[:, 2] + top[:, 3]) / 2", "(top[:, 1] + top[:, 2]) / 2"),
        ("difference-sign", "    return _at(z, t) - _at(z, y)\n", "    return _at(z, y) - _at(z, t)\n"),
        ("difference-from-the-best", "    return _at(z, t) - _at(z, y)\n", "    return _at(z, t) - _largest_other(z, t)\n"),
        ("difference-stops-at-the-boundary", "    return _at(z, t) - _at(z, y)\n", "    return tf.minimum(_at(z, t) - _at(z, y), 0.0)\n"),
        ("kl-the-other-way", "tf.exp(log_p) * (log_p - tf.nn.log_softmax(z))", "tf.exp(tf.nn.log_softmax(z)) * (tf.nn.log_softmax(z) - log_p)", {"lessons": "10 04"}),
        ("kl-mean-over-classes", "return tf.reduce_sum(tf.exp(log_p)", "return tf.reduce_mean(tf.exp(log_p)", {"lessons": "10 04"}),
        ("kl-without-its-entropy", "tf.exp(log_p) * (log_p - tf.nn.log_softmax(z))", "tf.exp(log_p) * -tf.nn.log_softmax(z)", {"lessons": "10 04"}),
        ("kl-constant-inverted", "if constant else log_p", "if not constant else log_p", {"lessons": "10 04", "tests": "losses defences"}),
    ),
    *_in(
        "norms.py", "04 03", "norms",
        ("no-box-clip", "tf.clip_by_value(tf.clip_by_value(z, x - eps, x + eps), 0.0, 1.0)", "tf.clip_by_value(z, x - eps, x + eps)"),
        ("no-ball-clip", "tf.clip_by_value(tf.clip_by_value(z, x - eps, x + eps), 0.0, 1.0)", "tf.clip_by_value(z, 0.0, 1.0)"),
        ("linf-size-is-a-mean", "return tf.reduce_max(tf.abs(delta), axis=(1, 2, 3))", "return tf.reduce_mean(tf.abs(delta), axis=(1, 2, 3))"),
        ("linf-size-signed", "return tf.reduce_max(tf.abs(delta), axis=(1, 2, 3))", "return tf.reduce_max(delta, axis=(1, 2, 3))"),
        ("linf-step-is-the-gradient", "return tf.sign(g)", "return g"),
        ("linf-start-one-sided", "rng.uniform(-eps, eps, shape)", "rng.uniform(0, eps, shape)"),
        ("norm-over-the-batch", "tf.sqrt(tf.reduce_sum(tf.square(delta), axis=(1, 2, 3), keepdims=True))", "tf.sqrt(tf.reduce_sum(tf.square(delta), keepdims=True))", {"of": "norms.L2"}),
        ("l2-clip-after-ball", "maximum_iterations=10)", "maximum_iterations=0)"),
        ("l2-size-squared", "return tf.sqrt(tf.reduce_sum(tf.square(delta), axis=(1, 2, 3)))", "return tf.reduce_sum(tf.square(delta), axis=(1, 2, 3))"),
        ("l2-projection-pushes-outward", "s = tf.minimum(1.0, eps / tf.maximum(_norm2(delta), 1e-12))", "s = eps / tf.maximum(_norm2(delta), 1e-12)"),
        ("l2-small-gradients-lost", "g = tf.where(tiny, g * 2.0**80, g)", "pass", {"of": "norms.Norm attacks.pgd", "lessons": "09 04", "tests": "norms attacks"}),
        ("l2-start-on-the-sphere", "direction[:d] / np.linalg.norm(direction))", "direction[:d] / np.linalg.norm(direction[:d]))"),
        ("l1-size-is-a-mean", "return tf.reduce_sum(tf.abs(delta), axis=(1, 2, 3))", "return tf.reduce_mean(tf.abs(delta), axis=(1, 2, 3))"),
        ("l1-projection-forgets-the-walls", "return tf.minimum(tf.nn.relu(size - level), wall)", "return tf.nn.relu(size - level)"),
        ("l1-one-pixel-a-step", "chosen = tf.where((rank < count) & ~held", "chosen = tf.where((rank < 1) & ~held"),
        ("l1-chooses-pixels-at-their-walls", "rank = _rank(tf.where(held, 0.0, tf.abs(g)))", "rank = _rank(tf.abs(g))"),
        ("l1-start-one-sided", "sign = rng.integers(0, 2, d) * 2 - 1", "sign = np.ones(d)"),
        ("l0-counts-channels", "changed = tf.reduce_any(tf.abs(delta) > 1e-6, axis=3)\n        return tf.reduce_sum(tf.cast(changed, delta.dtype), axis=(1, 2))", "changed = tf.abs(delta) > 1e-6\n        return tf.reduce_sum(tf.cast(changed, delta.dtype), axis=(1, 2, 3))"),
        ("l0-gain-beyond-the-box", "gain = tf.reduce_sum(tf.square(delta) - tf.square(z - inside), axis=3)", "gain = tf.reduce_sum(tf.square(delta), axis=3)"),
        ("l0-one-pixel-more", "count = tf.minimum(tf.cast(eps, tf.int32), n[1])", "count = tf.minimum(tf.cast(eps, tf.int32) + 1, n[1])"),
        ("l0-short-steps", "return 120_000 / 255", "return eps"),
        ("budget-without-an-end", "low=0, high=top, example=self.example", "low=0, example=self.example"),
        ("any-norm-will-do", "or name not in among", "or name not in NORMS"),
        ("one-budget-for-the-batch", "return eps if _is_scalar(eps) else tf.reshape(eps, (-1, 1, 1, 1))", "return eps if _is_scalar(eps) else tf.reduce_max(eps)", {"of": "norms.Norm", "lessons": "06 04"}),
    ),
    # --- noise and data
    *_in(
        "noise.py", "02", "noise",
        ("noise-one-sided", "rng.uniform(-1, 1, shape)", "rng.uniform(0, 1, shape)", {"of": "noise.uniform noise.best_of"}),
        ("noise-unclipped", "np.clip(x + np.float32(strength) * noise, 0, 1)", "x + np.float32(strength) * noise", {"of": _NOISE}),
        ("same-noise-on-every-image", 'draw(stream(image, seed, "noise"), image.shape)', "draw(np.random.default_rng(seed), image.shape)", {"of": _NOISE}),
        ("signs-with-zeros", "rng.integers(0, 2, shape).astype(np.float32) * 2 - 1", "rng.integers(-1, 2, shape).astype(np.float32)", {"of": "noise.signs"}),
        ("sigma-is-a-variance", 'check_number(sigma, "sigma", low=0, example=0.1), seed', 'check_number(sigma, "sigma", low=0, example=0.1) ** 0.5, seed'),
        ("salt-on-half-the-pixels", "rng.random(image.shape[:2]) < p", "rng.random(image.shape[:2]) < p / 2"),
        ("pepper-alone", "rng.integers(0, 2, int(replaced.sum()))", "rng.integers(0, 1, int(replaced.sum()))"),
        ("salt-in-greys", "rng.integers(0, 2, int(replaced.sum()))", "rng.random(int(replaced.sum()))"),
        ("best-of-one-draw", "for _ in range(draws):", "for _ in range(1):"),
        ("best-of-wanders-away", "        for _ in range(draws):\n            z = group.x.copy()\n", "        z = group.x.copy()\n        for _ in range(draws):\n"),
    ),
    *_in(
        "data.py", "00 01", "data",
        ("pixels-by-256", "/ np.float32(255)", "/ np.float32(256)"),
        ("train-for-test", 'images["x_test"], labels["y_test"]', 'images["x_train"], labels["y_train"]'),
        ("digest-not-compared", "if found != expected:", "if not found:"),
        ("subset-with-repeats", "k, replace=False)", "k, replace=True)", {"of": "data.subset data.split", "lessons": "02 01"}),
        ("subset-out-of-order", "return np.sort(np.concatenate(chosen))", "return np.concatenate(chosen)", {"of": "data.subset", "lessons": "02 03"}),
        ("subset-rounds-the-wrong-classes", "np.argsort(take - share", "np.argsort(share - take", {"of": "data.subset data.split", "lessons": "02 01"}),
        ("subset-ignores-its-seed", 'np.random.default_rng(check_number(seed, "seed", low=0, integer=True, example=0))', "np.random.default_rng(0)", {"of": "data.subset data.split", "lessons": "02 01"}),
        ("split-the-wrong-way-round", "return (x[~chosen], y[~chosen]), (x[chosen], y[chosen])", "return (x[chosen], y[chosen]), (x[~chosen], y[~chosen])", {"lessons": "01 10"}),
        ("split-that-overlaps", "return (x[~chosen], y[~chosen]), (x[chosen], y[chosen])", "return (x, y), (x[chosen], y[chosen])", {"lessons": "01 10"}),
    ),
    # --- what all attacks share
    *_in(
        "attacks/_loop.py", "04 03", "attacks",
        ("last-for-best", 'if self.keep == "last":', "if True:", {"of": _ASCENT}),
        ("best-by-loss-alone", "(broken & ~self.broken[i]) | as_good | ~self.known[i]", "(value >= self.best_value[i]) | ~self.known[i]", {"of": _ASCENT}),
        ("attacks-the-wrong-ones-too", "np.flatnonzero(ever_right(oracle, x[part], y[part], z))", "np.arange(len(z))", {"of": "attacks.fgsm attacks.pgd attacks.square", "lessons": "05 03"}),
        ("target-ignored", "if self.target is None else predicted == self.target[i]", "if True else None", {"of": "attacks.pgd attacks.square"}),
        ("seed-ignored", "key=repr((int(seed), *purpose))", "key=repr(purpose)", {"of": f"{_NOISE} noise.best_of noise.salt_and_pepper attacks.pgd attacks.square", "lessons": "02 04", "tests": "noise"}),
        ("one-stream-for-all-purposes", "key=repr((int(seed), *purpose))", "key=repr((int(seed),))", {"of": "attacks.pgd attacks.apgd", "lessons": "04 02"}),
        ("randomness-by-place", "return [stream(image, self.seed, *purpose) for image in self.x]", "return [stream(np.float32([i]), self.seed, *purpose) for i in range(len(self.x))]", {"of": "attacks.pgd attacks.square"}),
        ("last-for-smallest", "better = broken & (worth > self.best_value[i])", "better = broken", {"of": _MINIMAL, "lessons": "06", "tests": "ddn fmn"}),
        ("smallest-by-any-point", "better = broken & (worth > self.best_value[i])", "better = worth > self.best_value[i]", {"of": _MINIMAL, "lessons": "06", "tests": "ddn fmn"}),
        ("mean-loss-for-sum", "else tf.reduce_sum(value)", "else tf.reduce_mean(value)", {"of": "attacks.carlini_wagner attacks.fmn attacks.fab", "lessons": "06", "tests": "carlini_wagner fmn"}),
        ("queries-not-counted", "np.add.at(self.queries, i, 1)", "None", {"of": f"attacks.square attacks.nes attacks.spsa {_DECISIONS}", "lessons": "07", "tests": "square"}),
        ("queries-counted-once-an-image", "np.add.at(self.queries, i, 1)", "self.queries[i] += 1", {"of": f"attacks.nes attacks.spsa {_DECISIONS}", "lessons": "07", "tests": "spsa decision_based"}),
        ("restarts-on-broken-images", "self.standing = np.flatnonzero(~self.broken | (self.smallest is not None) | (not restart))", "self.standing = np.arange(len(self.index))", {"of": "attacks.pgd attacks.square attacks.apgd", "lessons": "07 04", "tests": "square attacks"}),
        ("box-counts-calls", "self.box.queries += len(index)", "self.box.queries += 1", {"of": "attacks.BlackBox", "lessons": "07", "tests": "black_box"}),
        ("box-gives-gradients", "if self.box or not self.gradient:", "if not self.gradient:", {"of": "attacks.BlackBox", "lessons": "07", "tests": "black_box"}),
        ("model-in-training-mode", "z = f(x, training=False) if takes_training else f(x)", "z = f(x, training=True) if takes_training else f(x)", {"of": "models.predict_logits attacks.pgd", "lessons": "08 01", "tests": "models attacks"}),
        ("model-as-it-was-before", "key = (key, str(signature), self.built)", "key = (key, str(signature))", {"of": "models.predict_logits attacks.pgd", "lessons": "09 01", "tests": "attacks models"}),
    ),
    *_in(
        "_checks.py", "05 03", "models attacks",
        ("probabilities-accepted", "raise ProbabilitiesNotLogitsError(", "ProbabilitiesNotLogitsError(", {"of": "models.predict_logits"}),
        ("logits-in-half-precision", "return z.astype(np.float32, copy=False)", "return z.astype(np.float16)", {"of": "models.predict_logits", "lessons": "01 03"}),
        ("nan-is-class-zero", "np.where(np.isnan(z).any(axis=1), -1, z.argmax(axis=1))", "np.nan_to_num(z).argmax(axis=1)", {"of": "robustness.evaluate attacks.universal attacks.patch corruptions.errors", "tests": "robustness"}),
        ("labels-not-compared-with-classes", "or (classes is not None and y.max() >= classes)", "", {"of": "attacks.pgd robustness.evaluate", "tests": "attacks robustness"}),
        ("target-may-be-the-label", "    if same.size:\n", "    if same.size == len(y):\n", {"of": "attacks.pgd"}),
    ),
    # --- attacks with gradients
    *_in(
        "attacks/pgd.py", "04", "attacks",
        ("ascent-sign", "z + alpha * ball.steepest", "z - alpha * ball.steepest", {"of": "attacks.pgd attacks.bim attacks.fgsm", "lessons": "03"}),
        ("ball-around-last-step", "ball.steepest(at.gradient, at.z), at.x, eps)", "ball.steepest(at.gradient, at.z), at.z, eps)", {"of": "attacks.pgd attacks.bim"}),
        ("no-random-start", "elif random_start:", "elif False:"),
        ("same-start-each-restart", 'group.streams("start", restart)', 'group.streams("start")'),
        ("start-outside-the-box", "z = ball.project(z + np.stack(delta), group.x, eps).numpy()", "z = z + np.stack(delta)"),
        ("one-step-too-few", "for _ in range(steps):", "for _ in range(steps - 1):"),
        ("small-default-step", "ball.step(2.5 * eps / max(steps, 1))", "ball.step(0.25 * eps / max(steps, 1))"),
        ("start-not-projected", "z = ball.project(start[group.index], group.x, eps).numpy()", "z = start[group.index]"),
    ),
    *_in(
        "attacks/fgsm.py", "03 00", "attacks",
        ("fgsm-sign", "ball, eps, ball.step(eps))", "ball, eps, -ball.step(eps))"),
        ("fgsm-half-a-step", "ball, eps, ball.step(eps))", "ball, eps, ball.step(eps / 2))"),
        ("fgsm-twice-the-budget", "ball, eps, ball.step(eps))", "ball, 2 * eps, ball.step(2 * eps))"),
        ("fgsm-without-its-target", "norm=ball, y_target=y_target", "norm=ball, y_target=None"),
    ),
    *_in(
        "attacks/bim.py", "04", "attacks",
        ("bim-starts-at-random", "random_start=False", "random_start=True"),
        ("bim-whole-budget-each-step", "step_size = eps / steps", "step_size = eps"),
        ("bim-without-its-target", "loss=loss, y_target=y_target", "loss=loss, y_target=None"),
    ),
    *_in(
        "attacks/mi_fgsm.py", "07", "attacks",
        ("momentum-not-summed", "m = decay * m + ", "m = "),
        ("momentum-of-raw-gradients", "tf.math.divide_no_nan(at.gradient, size)", "at.gradient"),
        ("momentum-over-the-batch", "tf.reduce_sum(tf.abs(at.gradient), axis=(1, 2, 3), keepdims=True)", "tf.reduce_sum(tf.abs(at.gradient), keepdims=True)"),
        ("momentum-step-along-the-gradient", "ball.steepest(m, at.z)", "ball.steepest(at.gradient, at.z)"),
    ),
    *_in(
        "attacks/apgd.py", "13 09", "apgd",
        ("apgd-never-halves", "tf.where(stuck, eta / 2, eta)", "eta"),
        ("apgd-rises-against-the-best", "rises += tf.cast(at.loss > loss, tf.float32)", "rises += tf.cast(at.loss > top, tf.float32)"),
        ("apgd-stays-where-it-is", "tf.where(column(stuck), best, z)", "z"),
        ("apgd-momentum-swapped", "momentum * (ahead - z) + (1 - momentum) * (z - last)", "(1 - momentum) * (ahead - z) + momentum * (z - last)"),
        ("apgd-one-target-for-all", "[:, restart // restarts]", "[:, 0]"),
        ("apgd-unlikeliest-first", 'order = np.argsort(-z, axis=1, kind="stable")', 'order = np.argsort(z, axis=1, kind="stable")'),
        ("apgd-starts-beyond-the-ball", "delta /= np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True))", "delta = delta"),
    ),
    *_in(
        "attacks/autoattack.py", "13", "autoattack",
        ("autoattack-on-all-again", "standing = attacked[lead[attacked] <= 0]", "standing = attacked"),
        ("autoattack-believes-its-parts", " & (size <= eps + tolerance(ball.name, eps))", ""),
        ("autoattack-keeps-the-last", "better = (margin > lead[attacked])", "better = (margin > -np.inf)"),
        ("autoattack-does-not-average", "eot(model, samples=EOT_SAMPLES)", "model"),
    ),
    *_in(
        "attacks/eot.py", "09", "eot",
        ("eot-mean-of-logits", "tf.reduce_logsumexp(tf.nn.log_softmax(runs), axis=0) - tf.math.log(float(samples))", "tf.reduce_mean(runs, axis=0)"),
        ("eot-mean-of-the-logs", "tf.reduce_logsumexp(tf.nn.log_softmax(runs), axis=0) - tf.math.log(float(samples))", "tf.reduce_mean(tf.nn.log_softmax(runs), axis=0)"),
        ("eot-one-draw", "tf.range(samples)", "tf.range(1)"),
        ("eot-one-draw-repeated", "runs = tf.map_fn(\n            lambda _: run(x), tf.range(samples), fn_output_signature=tf.float32, parallel_iterations=1\n        )", "runs = tf.repeat(run(x)[None], samples, axis=0)"),
    ),
    *_in(
        "attacks/bpda.py", "09", "bpda",
        ("bpda-forward-is-the-surrogate", "return tf.ensure_shape(sharp, smooth.shape), lambda upstream", "return smooth, lambda upstream", {"of": "attacks.bpda exhibits.one_bit"}),
        ("bpda-surrogate-ignored", "smooth = x if surrogate is None else surrogate(x)", "smooth = x"),
        ("bpda-gradient-sign", "(None, upstream)", "(None, -upstream)", {"of": "attacks.bpda exhibits.one_bit"}),
        ("bpda-defence-in-place", "defence(x.copy())", "defence(x)"),
    ),
    # --- minimal-norm attacks
    *_in(
        "attacks/deepfool.py", "06", "deepfool",
        ("deepfool-last-step-only", "    total += column(distance)", "    total = column(distance)"),
        ("deepfool-nearest-in-logits", "k = tf.argmin(distance, axis=1)", "k = tf.argmin(tf.abs(f), axis=1)", {"of": "attacks.deepfool attacks.fab"}),
        ("deepfool-no-overshoot", "(1 + overshoot) * total", "total"),
        ("deepfool-wrong-dual", "norms.get(ball.dual).size(tf.reshape(w", "ball.size(tf.reshape(w", {"of": "attacks.deepfool attacks.fab"}),
    ),
    *_in(
        "attacks/ddn.py", "06", "ddn",
        ("ddn-radius-backwards", "1 - gamma, 1 + gamma", "1 + gamma, 1 - gamma"),
        ("ddn-raw-gradient", "alpha * direction(at.gradient, stray)", "alpha * at.gradient"),
        ("ddn-inside-the-ball", "scale = column(tf.math.divide_no_nan(eps, L2.size(u)))", "scale = column(tf.minimum(1.0, tf.math.divide_no_nan(eps, L2.size(u))))"),
        ("steps-that-grow", "(1 + math.cos(math.pi * share))", "(1 - math.cos(math.pi * share))", {"of": "attacks.ddn attacks.fmn", "tests": "ddn fmn"}),
    ),
    *_in(
        "attacks/fmn.py", "06", "fmn",
        ("fmn-radius-never-shrinks", "tf.minimum((1 - gamma) * eps, best)", "(1 + gamma) * eps"),
        ("fmn-best-without-success", "best = tf.where(at.broken, tf.minimum(best, size), best)", "best = tf.minimum(best, size)"),
        ("fmn-guess-in-logits", "(size + tf.abs(at.loss) / tf.maximum(slope, 1e-12))", "(size + tf.abs(at.loss))"),
        ("fmn-wrong-dual", "slope = norms.get(ball.dual).size(at.gradient)", "slope = ball.size(at.gradient)"),
    ),
    *_in(
        "attacks/carlini_wagner.py", "06", "carlini_wagner",
        ("cw-search-backwards", "low, high = np.where(won, low, c), np.where(won, c, high)", "low, high = np.where(won, c, low), np.where(won, high, c)"),
        ("cw-one-constant-for-all", "c = np.where(high < np.inf, (low + high) / 2, 10 * c)", "c = np.full_like(c, np.where(high < np.inf, (low + high) / 2, 10 * c).mean())"),
        ("cw-length-not-squared", "gradient = (2 * delta - c", "gradient = (tf.math.l2_normalize(delta, axis=(1, 2, 3)) - c"),
        ("cw-confidence-forgotten", "group.confidence, n = confidence, len(group.x)", "n = len(group.x)"),
        ("cw-moments-kept", "z, w, m, v = group.x.copy(), w_0.copy(), np.zeros_like(w_0), np.zeros_like(w_0)", "z, w = group.x.copy(), w_0.copy()\n            m, v = (np.zeros_like(w_0), np.zeros_like(w_0)) if search == 0 else (m, v)"),
    ),
    *_in(
        "attacks/fab.py", "06", "fab",
        ("fab-bias-swapped", "tf.math.divide_no_nan(size, size + size_x)", "tf.math.divide_no_nan(size_x, size + size_x)"),
        ("fab-never-comes-back", "np.float32(backward) * (z - group.x)[broken]", "(z - group.x)[broken]"),
        ("fab-walls-forgotten", "return direction * tf.minimum(level * speed, room)", "return direction * level * speed"),
        ("fab-hyperplane-seen-from-z", "from_x = -f - tf.reduce_sum(", "from_x = -f + tf.reduce_sum("),
        ("fab-one-target", "likeliest[:, :targets].T", "likeliest[:, :1].T"),
    ),
    # --- attacks without gradients
    *_in(
        "attacks/square.py", "07", "square",
        ("square-keeps-everything", "better = margin > value[i]", "better = margin > -np.inf"),
        ("square-windows-never-shrink", "return p_init / 2 ** int(np.searchsorted(HALVED, step * 10_000 // schedule))", "return p_init"),
        ("square-adds-to-the-last-point", "np.clip(x.reshape(points.shape)[rows, one] + sign, 0, 1)", "np.clip(points[rows, one] + sign, 0, 1)"),
        ("square-starts-at-x", "sign = np.where(u < 0.5, -eps, eps).reshape(len(x), 1, *x.shape[2:])", "sign = 0 * u.reshape(len(x), 1, *x.shape[2:]).astype(x.dtype)"),
        ("square-schedule-not-stretched", "step * 10_000 // schedule", "step"),
    ),
    *_in(
        "attacks/spsa.py", "07", "spsa",
        ("probes-the-wrong-way", "(up - down) / (2 * delta)", "(down - up) / (2 * delta)", {"of": "attacks.spsa attacks.nes"}),
        ("probes-outside-the-box", "np.clip(np.stack([here + step, here - step]), 0, 1)", "np.stack([here + step, here - step])", {"of": "attacks.spsa attacks.nes"}),
        ("spsa-descends", "z + adam(g, m, v, t, learning_rate)", "z - adam(g, m, v, t, learning_rate)"),
        ("spsa-ball-around-last-step", "adam(g, m, v, t, learning_rate), group.x, eps)", "adam(g, m, v, t, learning_rate), z, eps)"),
        ("spsa-no-bias-correction", "learning_rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)", "learning_rate * m / (np.sqrt(v) + 1e-8)"),
    ),
    *_in(
        "attacks/nes.py", "07", "spsa",
        ("nes-no-momentum", "m = decay * m + (1 - decay) * slope(", "m = slope("),
        ("nes-descends", "z + alpha * ball.steepest(m, z)", "z - alpha * ball.steepest(m, z)"),
        ("nes-ball-around-last-step", "ball.steepest(m, z), group.x, eps)", "ball.steepest(m, z), z, eps)"),
    ),
    *_in(
        "attacks/_decision.py", "07", "decision_based",
        ("bisection-backwards", "near[broken], high[broken], low[~broken] = middle[broken], t[broken], t[~broken]", "near[broken], low[broken], high[~broken] = middle[broken], t[broken], t[~broken]", {"of": _DECISIONS}),
        ("bisection-too-short", '{"l2": 1.5, "linf": 2}[norm]', '{"l2": 0.3, "linf": 0.3}[norm]', {"of": _DECISIONS}),
        ("linf-way-is-a-segment", 'if norm == "l2":\n        return x + column(t)', "if True:\n        return x + column(t)", {"of": "attacks.hop_skip_jump"}),
    ),
    *_in(
        "attacks/boundary.py", "07", "decision_based",
        ("boundary-side-step-not-at-right-angles", "eta = eta - column(np.sum((eta * back).reshape(len(x), -1), axis=1) / d**2) * back", "eta = eta.copy()"),
        ("boundary-walks-on-right-images", "go = broken & (shorter < d)", "go = shorter < d"),
        ("boundary-adapts-backwards", "np.where(share > 0.5, 1.5, np.where(share < 0.2, 1 / 1.5, 1))", "np.where(share > 0.5, 1 / 1.5, np.where(share < 0.2, 1.5, 1))"),
    ),
    *_in(
        "attacks/hop_skip_jump.py", "07", "decision_based",
        ("normal-backwards", "mean[:, 0] - mean[:, 1]", "mean[:, 1] - mean[:, 0]"),
        ("normal-without-a-baseline", "mean[:, 0] - mean[:, 1]", "mean[:, 0]"),
        ("jump-never-halved", "        length = length / 2\n", ""),
        ("probes-grow-too-fast", "int(initial_evals * t**0.5)", "int(initial_evals * t)"),
    ),
    *_in(
        "attacks/black_box.py", "07", "black_box",
        ("box-shows-its-logits", "if not self.labels:\n            return z", "if self.labels:\n            return z"),
        ("box-hides-the-top-label", "[z.argmax(axis=1)]", "[z.argmin(axis=1)]"),
    ),
    *_in(
        "attacks/transfer.py", "07", "transfer",
        ("transfer-of-wrong-ones", "(self.prediction[source] == self.y) & (self.prediction[target] == self.y)", "self.prediction[target] >= 0"),
        ("transfer-rows-and-columns", "found = self.attacked[source, target]", "found = self.attacked[target, source]"),
        ("transfer-rate-of-all", "return broken / right if right", "return broken / len(self.y) if right"),
        ("transfer-counts-all-wrong", "int((right & (found != self.y)).sum())", "int((found != self.y).sum())"),
        ("transfer-judged-by-its-source", "predict_logits(judge, x_adv)", "predict_logits(model, x_adv)"),
        ("transfer-noise-of-mean-size", "noise = np.abs(d).max() * ", "noise = np.abs(d).mean() * "),
        ("transfer-noise-not-normalised", "noise = direction * (np.linalg.norm(d) / np.linalg.norm(direction))", "noise = direction * np.linalg.norm(d)"),
    ),
    *_in(
        "attacks/universal.py", "12", "universal",
        ("universal-descends", "v + np.float32(alpha) * ball.steepest", "v - np.float32(alpha) * ball.steepest"),
        ("universal-forgets-v", "v = project(v + (there - here)[0], ball, eps)", "v = project((there - here)[0], ball, eps)"),
        ("universal-unbounded", "return np.clip(v, -np.float32(eps), np.float32(eps))", "return v"),
        ("universal-loss-uncapped", "return tf.minimum(cross_entropy(z, y), 1.0)", "return cross_entropy(z, y)"),
        ("fooling-is-the-error", "float((after != before).mean())", "float((after != y).mean())"),
    ),
    *_in(
        "attacks/patch.py", "12", "patch",
        ("patch-flees-its-target", "tf.constant(-lift(", "tf.constant(lift("),
        ("patch-pixels-unclipped", "pixels.assign(tf.clip_by_value(pixels, 0.0, 1.0))", "pixels.assign(pixels)"),
        ("patch-counts-its-own-class", "counts = (y != self.target) & (predicted_classes(z) != self.target)", "counts = predicted_classes(z) != self.target"),
        ("patch-always-in-the-corner", "np.floor(rng.random((n, 2)) * (last - first + 1))", "np.floor(0 * rng.random((n, 2)))"),
        ("patch-turn-is-a-shear", "cos * right - sin * down", "cos * right + sin * down"),
    ),
    # --- training
    *_in(
        "training/fit.py", "01", "training",
        ("threshold-never-reached", "history.loss[-1] < threshold", "history.loss[-1] < 0", {"of": "training.fit"}),
        ("order-not-shuffled", "np.random.default_rng([seed, epoch]).permutation(n)", "np.arange(n)", {"of": "training.fit"}),
        ("same-order-each-epoch", "np.random.default_rng([seed, epoch])", "np.random.default_rng([seed])"),
        ("mean-of-batch-means", "total + float(loss) * len(rows)", "total + float(loss) * batch_size"),
        ("loss-summed-over-the-batch", "loss = tf.reduce_mean(cross_entropy(z, y))", "loss = tf.reduce_sum(cross_entropy(z, y))"),
    ),
    *_in(
        "training/_trainer.py", "10", "defences",
        ("trains-on-clean-images", "z = tf.stop_gradient(self.craft(x, y))", "z = x", {"of": f"training.Trainer {_STEPS} training.Gaussian"}),
        ("crafts-in-training-mode", "loss(self.network(z, training=False), y)", "loss(self.network(z, training=True), y)", {"of": f"training.Trainer {_STEPS}"}),
        ("loss-not-shared-by-replicas", '1 / (context.all_reduce("sum", count) if context.num_replicas_in_sync > 1 else count)', "1 / count"),
        ("every-replica-the-same-noise", "np.asarray(drawn[first:], np.float32)", "np.asarray(drawn[:n], np.float32)"),
        ("noise-never-fresh", "default_rng([self.seed, int(update)])", "default_rng([self.seed])", {"of": "training.PGD training.RSFGSM training.NFGSM training.Gaussian"}),
        ("no-ramp", "return self.train_eps * self.progress(0.0, self.ramp)", "return tf.constant(self.train_eps)", {"of": "training.PGD training.TRADES training.FGSM"}),
        ("crafts-downhill", "self.gradient(z, y, loss)), eps, alpha)", "self.gradient(z, y, loss)), eps, -alpha)", {"of": _STEPS}),
        ("weights-of-the-sum", "total = share * tf.reduce_sum(loss)", "total = tf.reduce_sum(loss)"),
    ),
    *_in(
        "training/fgsm.py", "10", "defences",
        ("fgsm-trains-at-half", "return self.ascend(x, x, y, eps, self.ball.step(eps))", "return self.ascend(x, x, y, eps, self.ball.step(eps) / 2)"),
        ("fast-without-a-start", "self.ascend(self.random_start(x, eps), x, y", "self.ascend(x, x, y"),
        ("fast-step-not-in-budgets", "y, eps, self.step * self.ball.step(eps))", "y, eps, self.step)"),
        ("nfgsm-back-into-the-ball", "return self.ascend(x_0, x_0, y, eps, eps)", "return self.ascend(x_0, x, y, eps, eps)"),
        ("nfgsm-noise-not-in-budgets", "x.shape[1:], self.noise * eps)", "x.shape[1:], self.noise)"),
        ("gradalign-sign", "self.align * (1 - cosine(here, there))", "self.align * (1 + cosine(here, there))"),
        ("gradalign-switched-off", "return loss + self.align * (1", "return loss + 0.0 * (1"),
        ("gradalign-over-the-batch", "return tf.reduce_sum(a * b, axis=1)", "return tf.reduce_sum(a * b) / tf.cast(tf.shape(a)[0], a.dtype)", {"of": "training.GradAlign"}),
        ("gradalign-floor-too-high", "axis=1, epsilon=1e-24)", "axis=1, epsilon=1e-12)", {"of": "training.GradAlign"}),
    ),
    *_in(
        "training/pgd.py", "10", "defences",
        ("one-inner-step", "for _ in range(self.steps):", "for _ in range(1):"),
        ("pgd-trains-without-a-start", "z = self.random_start(x, eps)", "z = x"),
        ("pgd-trains-around-the-last-step", "z = self.ascend(z, x, y, eps, alpha)", "z = self.ascend(z, z, y, eps, alpha)"),
    ),
    *_in(
        "training/trades.py", "10", "defences",
        ("trades-one-sided", "kl(logits, clean, constant=False)", "kl(logits, clean)"),
        ("trades-starts-at-x", "0.001 * rng.standard_normal(shape)", "0 * rng.standard_normal(shape)"),
        ("trades-forgets-clean-images", "return cross_entropy(clean, y) + self.beta", "return cross_entropy(logits, y) + self.beta"),
        ("trades-beta-on-the-wrong-term", "return cross_entropy(clean, y) + self.beta * kl(", "return self.beta * cross_entropy(clean, y) + kl("),
    ),
    *_in(
        "training/free.py", "10", "defences",
        ("free-forgets", "if self.warm else tf.zeros_like(x)", "if False else tf.zeros_like(x)"),
        ("free-descends", "z + self.ball.step(eps) * step, x, eps)", "z - self.ball.step(eps) * step, x, eps)"),
        ("free-one-replay", "for _ in range(self.updates_per_batch):", "for _ in range(1):"),
    ),
    *_in(
        "training/gaussian.py", "11", "defences",
        ("gaussian-training-clipped", "return x + self.draw(lambda rng, shape: self.sigma * rng.standard_normal(shape), x, x.shape[1:])", "return np.clip(x + self.draw(lambda rng, shape: self.sigma * rng.standard_normal(shape), x, x.shape[1:]), 0, 1)"),
        ("gaussian-scored-without-noise", "noisy = x + self.sigma * ", "noisy = x + 0 * "),
        ("gaussian-training-variance", "self.sigma * rng.standard_normal(shape), x", "self.sigma**2 * rng.standard_normal(shape), x"),
    ),
    *_in(
        "training/ibp.py", "11", "defences",
        ("ibp-kappa-at-once", "kappa = 1 - (1 - self.kappa) * self.progress(self.warmup, self.ramp)", "kappa = self.kappa"),
        ("ibp-terms-swapped", "kappa * cross_entropy(logits, y) + (1 - kappa) * bound", "(1 - kappa) * cross_entropy(logits, y) + kappa * bound"),
        ("ibp-scored-at-its-training-budget", "intervals.verified(self.network, x, y, self.eps)", "intervals.verified(self.network, x, y, self.train_eps)"),
        ("ibp-no-warm-up", "return self.train_eps * self.progress(self.warmup, self.ramp)", "return self.train_eps * self.progress(0.0, self.ramp)"),
    ),
    *_in(
        "training/adversarial_fit.py", "10", "defences",
        ("alarm-asleep", "ALARM_GAP, ALARM_JUMP = 0.15, 0.10", "ALARM_GAP, ALARM_JUMP = 1.5, 1.0", {"of": "training.adversarial_fit"}),
        ("last-epoch-kept", "and score >= self.top", "and True"),
        ("epoch-order-lost-on-resume", "trainer.updates // (steps * trainer.updates_per_batch)", "0"),
        ("learning-rate-without-a-fall", "tf.minimum(done / 0.4, (1 - done) / 0.6)", "tf.minimum(done / 0.4, 1.0)"),
        ("best-weights-not-put-back", "trainer.network.set_weights(watch.best)", "trainer.network.get_weights()"),
    ),
    *_in(
        "training/_resume.py", "10", "defences",
        ("callbacks-forget-on-resume", "            vars(callback).update(kept)\n", "            pass\n", {"of": "training.adversarial_fit"}),
        ("another-run-is-resumed", 'if run != json.loads(json.dumps(self.run)):', "if False:", {"of": "training.adversarial_fit"}),
        ("half-a-state-is-left", 'half = self.path.with_suffix(".part")', "half = self.path", {"of": "training.adversarial_fit"}),
    ),
    # --- proofs
    *_in(
        "certify/intervals.py", "11", "certify",
        ("ibp-forgets-negative-weights", "times(radius, tf.abs(kernel))", "times(radius, kernel)"),
        ("ibp-box-ignored", "return tf.maximum(x - eps, 0.0), tf.minimum(x + eps, 1.0)", "return x - eps / 2, x + eps / 2", {"of": "certify.intervals.bounds certify.intervals.verified"}),
        ("ibp-negative-scale-not-swapped", "a, b = tf.minimum(a, b), tf.maximum(a, b)", "pass"),
        ("ibp-bias-on-the-radius", "return (middle + layer.bias if layer.use_bias else middle), radius", "return (middle + layer.bias, radius + tf.abs(layer.bias)) if layer.use_bias else (middle, radius)"),
        ("ibp-worst-of-the-true-class", "return tf.where(own, np.float32(-np.inf), middle + radius)", "return tf.where(own, np.float32(-np.inf), middle)", {"of": "certify.intervals.worst_margins certify.intervals.verified"}),
        ("ibp-last-bias-backwards", "middle += last.bias[None] - tf.gather(last.bias, y)[:, None]", "middle -= last.bias[None] - tf.gather(last.bias, y)[:, None]"),
        ("ibp-last-radius-doubled", '(high - low) / 2)\n    if last.use_bias', 'high - low)\n    if last.use_bias'),
        ("ibp-any-class-proved", "np.max(worst_margins(chain", "np.min(worst_margins(chain"),
        ("leaky-taken-for-relu", "if layer.negative_slope or layer.threshold:", "if layer.threshold:", {"of": "certify.crown.verified certify.lipschitz.constant"}),
    ),
    *_in(
        "certify/crown.py", "11", "certify",
        ("crown-upper-line-through-zero", "* above * -l, 0.0)", "* above * 0.0, 0.0)", {"of": "certify.crown.worst_margins certify.crown.verified"}),
        ("crown-lines-swapped", "tf.where(rows >= 0, rows * below, rows * above)", "tf.where(rows >= 0, rows * above, rows * below)", {"of": "certify.crown.worst_margins certify.crown.verified"}),
        ("crown-ends-swapped", "tf.where(rows >= 0, rows * low, rows * high)", "tf.where(rows >= 0, rows * high, rows * low)"),
        ("crown-offset-lost", "offset * a + b", "offset * a"),
        ("crown-lower-line-always-zero", "tf.where(unstable, tf.cast(u > -l, tf.float32), above)", "tf.where(unstable, 0.0, above)"),
        ("crown-any-class-proved", "tf.reduce_max(worst_margins(", "tf.reduce_min(worst_margins("),
        ("crown-relu-before-any-layer", 'elif matrices and name == "relu" and', 'elif name == "relu" and', {"of": "certify.crown.verified"}),
        ("crown-last-relu-overlooked", "    if waits or not matrices:\n", "    if not matrices:\n", {"of": "certify.crown.verified"}),
    ),
    *_in(
        "certify/lipschitz.py", "11", "certify",
        ("lipschitz-frobenius", "np.linalg.norm(np.asarray(layer.kernel, np.float64), 2)", "np.linalg.norm(np.asarray(layer.kernel, np.float64))"),
        ("lipschitz-forgets-the-scaling", "total *= float(np.max(np.abs(layer.scale)))", "total *= 1.0"),
        ("lipschitz-sum-of-layers", "total *= convolution(layer, shape)", "total += convolution(layer, shape)"),
        ("lipschitz-without-the-root", "/ (np.sqrt(2) * constant(model))", "/ constant(model)"),
        ("lipschitz-two-for-its-root", "/ (np.sqrt(2) * constant(model))", "/ (2 * constant(model))"),
        ("lipschitz-radius-where-wrong", "np.maximum(leads(chain, x, y, 0.0).astype(np.float64), 0)", "np.abs(leads(chain, x, y, 0.0).astype(np.float64))"),
        ("lipschitz-steep-activation-let-in", '"linear", "tanh", "sigmoid"):', '"linear", "tanh", "sigmoid", "gelu"):', {"of": "certify.lipschitz.constant"}),
    ),
    *_in(
        "certify/smoothing.py", "11", "certify",
        ("smoothing-two-sided", "beta.ppf(alpha, k, np.asarray(n) - k + 1)", "beta.ppf(alpha / 2, k, np.asarray(n) - k + 1)"),
        ("smoothing-upper-for-lower", "beta.ppf(alpha, k, np.asarray(n) - k + 1)", "beta.ppf(1 - alpha, k, np.asarray(n) - k + 1)"),
        ("smoothing-one-failure-too-few", "beta.ppf(alpha, k, np.asarray(n) - k + 1)", "beta.ppf(alpha, k + 1, np.asarray(n) - k)"),
        ("smoothing-counts-used-twice", "lower_bound(votes[1][np.arange(len(label)), label], samples, alpha)", "lower_bound(votes[0][np.arange(len(label)), label], selection, alpha)"),
        ("smoothing-never-abstains", "sure = share >= 0.5", "sure = share >= 0.0"),
        ("smoothing-radius-without-sigma", "sigma * norm.ppf(np.maximum(share, 0.5))", "norm.ppf(np.maximum(share, 0.5))"),
        ("smoothing-noise-clipped", "call(image[None] + sigma * noise)", "call(tf.clip_by_value(image[None] + sigma * noise, 0.0, 1.0))", {"of": "certify.smoothing.certify certify.smoothing.predict"}),
        ("smoothing-draws-not-fresh", "                draw += 1\n", "", {"of": "certify.smoothing.certify certify.smoothing.predict"}),
        ("smoothing-predicts-at-half", "binomtest(int(a), int(a + b), 0.5).pvalue <= alpha", "binomtest(int(a), int(a + b), 0.5).pvalue > alpha"),
        ("smoothing-predicts-one-sided", "binomtest(int(a), int(a + b), 0.5).pvalue", 'binomtest(int(a), int(a + b), 0.5, alternative="greater").pvalue'),
        ("certified-whatever-the-class", "(right & (certificates.radius >= r)).mean()", "(certificates.radius >= r).mean()"),
        ("certified-strictly", "(right & (certificates.radius >= r)).mean()", "(right & (certificates.radius > r)).mean()"),
        ("certified-of-the-right-ones", "(right & (certificates.radius >= r)).mean()", "(certificates.radius[right] >= r).mean()"),
        ("average-radius-of-the-right-ones", "(certificates.radius * right).mean()", "certificates.radius[right].mean()"),
        ("average-radius-of-wrong-ones-too", "(certificates.radius * right).mean()", "certificates.radius.mean()"),
        ("average-radius-is-a-median", "float((certificates.radius * right).mean())", "float(np.median(certificates.radius * right))"),
    ),
    # --- models, exhibits, corruptions
    *_in(
        "models.py", "01 00", "models",
        ("normalised-without-a-scale", "keras.layers.Rescaling(1 / STD, -MEAN / STD, ", "keras.layers.Rescaling(1 / STD, -MEAN, ", {"of": _NETS}),
        ("weights-without-a-seed", "kernel_initializer=keras.initializers.GlorotUniform(seed), name=name", "kernel_initializer=keras.initializers.GlorotUniform(), name=name", {"of": _NETS}),
        ("linear-ends-in-softmax", '_dense("logits", classes, seed)]', '_dense("logits", classes, seed, "softmax")]'),
        ("mlp-without-relu", '_dense("hidden", width, seed, "relu")', '_dense("hidden", width, seed)'),
        ("cnn-without-relu", '"same", activation="relu"', '"same"', {"of": "models.cnn"}),
        ("sigmoid-logits-swapped", "([keras.layers.Rescaling(0.0)(logits), logits])", "([logits, keras.layers.Rescaling(0.0)(logits)])", {"tests": "models loading", "lessons": "13 09"}),
        ("softmax-removed-with-its-weights", "    copy.set_weights(layer.get_weights())\n", "", {"of": "models.as_logits", "lessons": "13 09"}),
        ("softmax-becomes-relu", '"activation": "linear"', '"activation": "relu"', {"of": "models.as_logits", "lessons": "13 09"}),
        ("checkpoints-listed-twice", 'FOLDER.glob("*.json")', 'FOLDER.glob("*.*")', {"lessons": "10"}),
        ("card-without-a-digest-accepted", '{"architecture": str, "sha256": str, "measured": dict}', '{"architecture": str}'),
        ("card-of-any-architecture", 'if missing or about["architecture"] not in ARCHITECTURES:', "if missing:"),
        ("weights-not-compared-with-the-card", '!= about["sha256"]:', '== "":', {"of": "models.load"}),
        ("weights-never-set", "        model.set_weights(weights)\n", ""),
        ("arguments-of-the-card-forgotten", '(**about.get("arguments", {}))', "()", {"lessons": "10"}),
    ),
    *_in(
        "exhibits.py", "09", "exhibits",
        ("stamp-elsewhere", "x[:, -2 - STAMP : -2, -2 - STAMP : -2] = 1.0", "x[:, 2 : 2 + STAMP, 2 : 2 + STAMP] = 1.0", {"lessons": "12"}),
        ("stamp-too-small", "STAMP = 3", "STAMP = 2", {"lessons": "12", "of": "exhibits.stamp"}),
        ("stamp-in-place", "x = check_images(x).copy()\n    x[:, -2", "x = check_images(x)\n    x[:, -2", {"lessons": "12"}),
        ("poison-among-its-own-class", "others = np.flatnonzero(y != label)", "others = np.arange(len(y))", {"lessons": "12"}),
        ("poison-without-its-label", "x[chosen], y[chosen] = stamp(x[chosen]), label", "x[chosen] = stamp(x[chosen])", {"lessons": "12"}),
        ("poison-share-of-the-others", "round(share * len(x))", "round(share * len(others))", {"lessons": "12"}),
        ("saturated-images-for-logits", "factor * run(x)", "run(factor * x)"),
        ("saturated-the-other-way", "factor * run(x)", "run(x) / factor"),
        ("saturated-probabilities", "factor * run(x)", "factor * tf.nn.softmax(run(x))"),
        ("quantised-one-level-more", 'example=16) - 1', 'example=16)'),
        ("quantised-lets-gradients-through", "run(tf.round(x * top) / top + 0.0 * x)", "run(x + tf.stop_gradient(tf.round(x * top) / top - x))"),
        ("quantised-rounds-down", "tf.round(x * top) / top", "tf.floor(x * top) / top"),
        ("noisy-but-frozen", "rng.normal(tf.shape(x), stddev=std)", "std * tf.random.stateless_normal(tf.shape(x), [0, 0])"),
        ("noisy-variance", "stddev=std)", "stddev=std**2)"),
        ("noisy-same-for-all-images", "rng.normal(tf.shape(x), stddev=std)", "rng.normal(tf.shape(x[:1]), stddev=std)"),
        ("one-bit-threshold", "tf.cast(x >= 0.5, x.dtype)", "tf.cast(x >= 0.25, x.dtype)"),
        ("one-bit-half-is-black", "tf.cast(x >= 0.5, x.dtype)", "tf.cast(x > 0.5, x.dtype)"),
        ("detector-threshold-inverted", "+ tf.math.log(threshold)", "- tf.math.log(threshold)"),
        ("detector-of-the-largest-logit", "tf.reduce_logsumexp(z, axis=1, keepdims=True)", "tf.reduce_max(z, axis=1, keepdims=True)"),
        ("detector-rejects-first", "tf.concat([z, reject], axis=1)", "tf.concat([reject, z], axis=1)"),
    ),
    *_in(
        "corruptions.py", "12", "corruptions",
        ("mce-of-sums", "return float((own / base).mean())", "return float(own.sum() / base.sum())"),
        ("mce-upside-down", "return float((own / base).mean())", "return float((base / own).mean())"),
        ("mce-relative-to-one-clean-error", 'base - baseline["identity"]', 'base - errors["identity"]'),
        ("identity-among-the-corruptions", 'if k != "identity"]', "]"),
        ("corruption-by-place", "damage(image[..., 0].astype(np.float64), stream(image, seed, kind)) for image in x]", "damage(image[..., 0].astype(np.float64), np.random.default_rng([seed, i])) for i, image in enumerate(x)]"),
        ("corruption-same-for-every-image", "stream(image, seed, kind)) for", "np.random.default_rng(seed)) for"),
        ("turn-to-one-side", "c = 0.4 * rng.choice([-1, 1])\n    return warp(x, [[np.cos", "c = 0.4\n    return warp(x, [[np.cos"),
        ("scaled-up-for-down", "np.eye(2) / 0.7", "np.eye(2) * 0.7"),
        ("warp-about-the-corner", "centre - matrix @ centre + shift", "np.asarray(shift, float)", {"lessons": "11 12"}),
        ("photons-not-divided", "rng.poisson(3 * x) / 3", "rng.poisson(3 * x)"),
        ("errors-are-accuracies", "corrupt(x, k, seed))) != y", "corrupt(x, k, seed))) == y"),
        ("errors-ignore-the-seed", "corrupt(x, k, seed)))", "corrupt(x, k)))"),
        ("errors-of-all-kinds", "for k in kinds or KINDS", "for k in KINDS"),
    ),
    # --- measuring
    *_in(
        "robustness.py", "05", "robustness",
        ("interval-one-sided", "confidence_level=confidence,", "confidence_level=2 * confidence - 1,"),
        ("interval-always-wilson", "confidence_level=confidence, method=method)", 'confidence_level=confidence, method="wilson")'),
        ("interval-of-the-failures", "bounds = binomtest(k, n)", "bounds = binomtest(n - k, n)"),
        ("tolerance-a-thousandth", '{"linf": 1e-6,', '{"linf": 1e-3,'),
        ("tolerance-relative-in-l2", '"l2": 1e-5 * max(1, eps)', '"l2": 1e-5 * eps'),
        ("tolerance-a-pixel-in-l0", '"l0": 0.0}', '"l0": 1.0}'),
        ("success-of-all", "float(self.broken(name).sum() / right)", "float(self.broken(name).sum() / self.n)"),
        ("wrong-ones-left-out", "return float(self.still_correct(name).mean())", "return float(self.still_correct(name)[self.prediction == self.y].mean())"),
        ("one-attack-for-all", "if name in (attack, WORST):\n                right =", "if name == attack or attack == [*self.outcomes][-1]:\n                right ="),
        ("size-is-a-mean", "float(np.median(self.sizes(name)[broken]))", "float(np.mean(self.sizes(name)[broken]))"),
        ("size-of-failures-too", "np.where(self.broken(attack), np.minimum(smallest, self[attack].size), smallest)", "np.minimum(smallest, self[attack].size)"),
        ("budget-not-measured", "feasible = finite & (beyond == 0) & ~too_far", "feasible = finite"),
        ("box-not-measured", "feasible = finite & (beyond == 0) & ~too_far", "feasible = finite & ~too_far"),
        ("input-not-copied", "given, start = x.copy(), time.perf_counter()", "given, start = x, time.perf_counter()"),
        ("always-measured-in-linf", "np.asarray(norms.get(norm).size(delta)) if norm", 'np.asarray(norms.get("linf").size(delta)) if norm', {"of": "robustness.evaluate"}),
        ("curve-forgets-smaller-budgets", "        if cumulative:\n            standing = right\n", ""),
        ("curve-of-the-first-right-ones", "low, high = interval(int(right.sum()), len(x))\n        rows", "low, high = interval(int(right.sum()), len(index))\n        rows"),
        ("curve-always-cumulative", "index = np.flatnonzero(standing) if cumulative else np.arange(len(x))", "index, cumulative = np.flatnonzero(standing), True", {"lessons": "02 05"}),
        ("curve-counts-wrong-images", "standing, rows = clean == y, []", "standing, rows = np.ones(len(x), bool), []"),
        ("compare-first-and-second-swapped", "(first & second, first & ~second, ~first & second, ~first & ~second)", "(first & second, ~first & second, first & ~second, ~first & ~second)"),
        ("compare-one-sided", "binomtest(only_a, only_a + only_b).pvalue", 'binomtest(only_a, only_a + only_b, alternative="greater").pvalue'),
        ("compare-as-if-unpaired", "phi = excess / spread if spread else 0.0", "phi = 0.0", {"of": "robustness.compare"}),
        ("compare-of-all-images", "binomtest(only_a, only_a + only_b).pvalue", "binomtest(only_a, a.n).pvalue"),
        ("label-distance-summed", "return float(np.abs(p - y[:, None]).mean())", "return float(np.abs(p - y[:, None]).sum(axis=1).mean())", {"lessons": "02"}),
        ("label-distance-squared", "return float(np.abs(p - y[:, None]).mean())", "return float(np.square(p - y[:, None]).mean())", {"lessons": "02"}),
        ("label-distance-signed", "return float(np.abs(p - y[:, None]).mean())", "return float((p - y[:, None]).mean())", {"lessons": "02"}),
        ("onehot-distance-summed", "np.abs(p - np.eye(p.shape[1])[y]).mean()", "np.abs(p - np.eye(p.shape[1])[y]).sum(axis=1).mean()", {"lessons": "02"}),
        ("onehot-distance-of-the-worst", "np.abs(p - np.eye(p.shape[1])[y]).mean()", "np.abs(p - np.eye(p.shape[1])[y]).max(axis=1).mean()", {"lessons": "02"}),
        ("onehot-distance-squared", "np.abs(p - np.eye(p.shape[1])[y]).mean()", "np.square(p - np.eye(p.shape[1])[y]).mean()", {"lessons": "02"}),
        ("class-distance-is-the-error", "np.abs(p.argmax(axis=1) - y).mean()", "(p.argmax(axis=1) != y).mean()", {"lessons": "02"}),
        ("class-distance-signed", "np.abs(p.argmax(axis=1) - y).mean()", "(p.argmax(axis=1) - y).mean()", {"lessons": "02"}),
        ("class-distance-of-the-mean-class", "np.abs(p.argmax(axis=1) - y).mean()", "np.abs(p @ np.arange(p.shape[1]) - y).mean()", {"lessons": "02"}),
    ),
    # --- is it to be believed?
    *_in(
        "diagnostics/checks.py", "08 09", "diagnostics",
        ("flag-at-the-middle-of-the-interval", '"red" if robustness.interval(k, n)[0] > red', '"red" if k / n > red', {"of": _SHARES}),
        ("flag-at-the-high-end", '"red" if robustness.interval(k, n)[0] > red', '"red" if robustness.interval(k, n)[1] > red', {"of": _SHARES}),
        ("witnesses-of-either", "return int((first & ~second).sum()), n", "return int((first | second).sum()), n", {"of": f"{_WEAKER} diagnostics.not_at_chance"}),
        ("probabilities-in-one-row", "sums = np.abs(z.sum(axis=1) - 1).max() <= 1e-3", "sums = np.abs(z.sum(axis=1) - 1).min() <= 1e-3", {"lessons": "09 08"}),
        ("probabilities-all-red", '"red" if inside and sums else "amber" if inside else "green"', '"red" if inside else "green"', {"lessons": "09 08"}),
        ("probabilities-may-be-negative", "inside = z.min() >= -1e-5 and z.max() <= 1 + 1e-5", "inside = z.max() <= 1 + 1e-5", {"lessons": "09 08"}),
        ("random-output-inverted", '"red" if difference > VARIES else "green", "random output"', '"red" if difference < VARIES else "green", "random output"', {"lessons": "09 08"}),
        ("random-output-amber", '"red" if difference > VARIES else "green", "random output"', '"amber" if difference > VARIES else "green", "random output"', {"lessons": "09 08"}),
        ("randomness-tolerated", "VARIES = 1e-4", "VARIES = 1.0", {"of": "diagnostics.random_output diagnostics.training_mode", "lessons": "09 08"}),
        ("training-mode-although-random", '"amber" if random > VARIES else "red" if difference', '"red" if difference'),
        ("company-inverted", '"red" if difference > COMPANY', '"red" if difference < COMPANY'),
        ("range-of-bytes", "outside = low < -1e-6 or high > 1 + 1e-6", "outside = low < -1e-6 or high > 255"),
        ("range-gain-backwards", "gain = _gain(then, right)", "gain = _gain(right, then)"),
        ("range-first-scale-wins", "if gain > BETTER and (better is None or others[name].mean() > others[better].mean()):", "if gain > BETTER and better is None:"),
        ("constant-of-one-class-too", '"amber" if answers == 1 < classes', '"amber" if answers == 1'),
        ("constant-of-the-labels", "answers, classes = len(np.unique(predicted)), len(np.unique(y))", "answers, classes = len(np.unique(y)), len(np.unique(predicted))", {"lessons": "10 08"}),
        ("constant-of-few-answers", '"amber" if answers == 1 < classes', '"amber" if answers < classes'),
        ("unstable-in-per-cent", "UNSTABLE = 0.1", "UNSTABLE = 10", {"of": "diagnostics.unstable_predictions", "lessons": "09 08"}),
        ("unstable-median", "mean = float(np.mean(change)) if", "mean = float(np.median(change)) if", {"lessons": "09 08"}),
        ("unstable-inverted", '"amber" if mean > UNSTABLE', '"amber" if mean < UNSTABLE', {"lessons": "09 08"}),
        ("zero-gradients-without-nan", "(~(np.abs(sizes) > 0) | np.isinf(sizes))", "(sizes == 0)", {"lessons": "09 08"}),
        ("zero-gradients-of-all", 'colour = "red" if zero else', 'colour = "red" if zero == len(sizes) else', {"lessons": "09 08"}),
        ("zero-gradients-tiny", "TINY = 1e-18", "TINY = 1e-3", {"of": "diagnostics.zero_gradients", "lessons": "09 08"}),
        ("silent-success-backwards", "(np.asarray(passed) & ~np.asarray(returned))", "(np.asarray(returned) & ~np.asarray(passed))", {"lessons": "09 08"}),
        ("silent-success-of-all-passed", "(np.asarray(passed) & ~np.asarray(returned))", "np.asarray(passed)", {"lessons": "09 08"}),
        ("silent-success-of-half", '"red" if k else "green", "silent success"', '"red" if k > n / 2 else "green", "silent success"', {"lessons": "09 08"}),
        ("incomplete-backwards", "int((full & ~half).sum())", "int((half & ~full).sum())"),
        ("incomplete-without-restarts", "_colour(max(longer, again), n, LOOK, DOUBLED)", "_colour(longer, n, LOOK, DOUBLED)"),
        ("black-box-backwards", "k, n = _only(black, white, n)", "k, n = _only(white, black, n)", {"lessons": "09 08"}),
        ("random-search-backwards", "k, n = _only(random, gradient)", "k, n = _only(gradient, random)", {"lessons": "09 08"}),
        ("single-step-backwards", "k, n = _only(single, iterative)", "k, n = _only(iterative, single)"),
        ("unbounded-counts-successes", "int((~np.asarray(broken, bool)).sum())", "int(np.asarray(broken, bool).sum())", {"lessons": "09 08"}),
        ("chance-backwards", "k, n = _only(grey, broken)", "k, n = _only(broken, grey)"),
        ("success-and-budget-backwards", "_gain(broken[small], broken[large])", "_gain(broken[large], broken[small])", {"lessons": "09 08"}),
        ("success-stuck-is-green", 'else "amber" if stuck else "green", "success and ε"', 'else "green", "success and ε"', {"lessons": "09 08"}),
        ("success-misled-is-green", '"red" if worst > FALLS or misled else', '"red" if worst > FALLS else', {"lessons": "09 08"}),
        ("too-few-half-the-width", "width = high - low\n", "width = (high - low) / 2\n"),
        ("too-few-never-red", '"red" if width > VERY_WIDE else "amber"', '"amber"'),
        ("too-few-wide-is-very-wide", "WIDE, VERY_WIDE = 0.10, 0.25", "WIDE, VERY_WIDE = 0.25, 0.25", {"of": "diagnostics.too_few_images"}),
        ("trained-on-by-itself", "known = set(_keys(train))", "known = set(_keys(x))"),
        ("trained-on-by-its-first-pixel", "np.round(255 * x).astype(np.uint8):", "np.round(255 * x).astype(np.uint8)[:, :1]:", {"of": "diagnostics.evaluated_on_training_data"}),
        ("white-box-weakest-counts", "best = max(knows.values()", "best = min(knows.values()"),
        ("white-box-scores-are-green", '{"nothing": "red", "gradient": "green"}', '{"nothing": "red", "gradient": "green", "scores": "green"}'),
        ("transfer-is-amber", '{"nothing": "red", "gradient": "green"}', '{"gradient": "green"}'),
    ),
    *_in(
        "diagnostics/passes.py", "09 08", "diagnostics",
        ("diagnosis-half-is-whole", "(first[:STARTS] <= STEPS)", "(first[:STARTS] <= 2 * STEPS)", {"of": "diagnostics.diagnose"}),
        ("diagnosis-of-wrong-images-too", "np.flatnonzero(predicted_classes(z) == y[part])", "np.arange(len(z))", {"of": "diagnostics.diagnose"}),
        ("diagnosis-of-one-pass", "max(_difference(z, oracle.logits(x)) for _ in range(4))", "_difference(z, z)", {"of": "diagnostics.diagnose"}),
        ("diagnosis-without-other-company", "_difference(z, _in_other_company(oracle, x))", "_difference(z, oracle.logits(x))", {"of": "diagnostics.diagnose"}),
    ),
    *_in(
        "diagnostics/flag.py", "08 05", "diagnostics robustness",
        ("flag-of-any-colour", "if self.colour not in COLOURS:", "if not self.colour:"),
        ("flag-with-keys-missing", 'not names - {"source"} <= set(values) <= names', "not set(values) <= names"),
        ("flag-without-its-source", '[f"  source: {self.source}"] * bool(self.source)', "[]"),
        ("collected-once-a-line", 'warnings.simplefilter("always", FlagWarning)', 'warnings.simplefilter("once", FlagWarning)'),
        ("other-warnings-swallowed", "                show(message, *where, **more)\n", "                pass\n"),
        ("collected-and-shown", "flags.append(message.flag)\n", "flags.append(message.flag)\n                show(message, *where, **more)\n"),
    ),
    # --- audits, models and images from elsewhere, sealed models
    *_in(
        "auditing.py", "13", "audit",
        ("suite-on-all-images", "open_ = open_ & (clean.prediction == y) & (before.prediction == y)", "open_ = open_ & (clean.prediction == y)"),
        ("suite-loses-what-came-before", "a.copy() for a in (before.prediction, before.size, before.feasible)", "a.copy() for a in (clean.prediction, before.size, before.feasible)"),
        ("least-are-the-largest", "np.argsort(outcome.size[broken], kind", "np.argsort(-outcome.size[broken], kind"),
        ("curve-beyond-the-box", "min(k * eps, top) for k in CURVE", "k * top for k in CURVE", {"of": "auditing.audit"}),
        ("preset-quick-for-all", 'quick, thorough = preset == "quick", preset == "thorough"', 'quick, thorough = preset != "thorough", preset == "thorough"'),
        ("square-knows-gradients", 'knows = "scores" if "Square" in part else "gradient"', 'knows = "gradient"'),
        ("suite-seed-forgotten", "partial(attack, **seeded), knows", "partial(attack, **common), knows"),
        ("nearest-although-far", "norms.get(norm).size(x_adv - x).numpy() > eps", "norms.get(norm).size(x_adv - x).numpy() > 2 * eps"),
        ("nearest-backwards", "return np.where(far[:, None, None, None], x, x_adv)", "return np.where(far[:, None, None, None], x_adv, x)"),
        ("nearest-in-l2", "norms.get(norm).size(x_adv - x).numpy() > eps", 'norms.get("l2").size(x_adv - x).numpy() > eps'),
        ("audit-worst-flag-is-the-best", "return max((flag.colour for flag in self.flags)", "return min((flag.colour for flag in self.flags)"),
        ("audit-null-sizes-are-zero", "np.array([np.nan if s is None else s for s", "np.array([0.0 if s is None else s for s"),
        ("audit-of-another-version-read", 'if (about["format"], about["version"]) != (FORMAT, VERSION):', 'if about["format"] != FORMAT:'),
    ),
    *_in(
        "loading.py", "13", "loading",
        ("range-backwards", "keras.layers.Rescaling(high - low, low,", "keras.layers.Rescaling(high, low,", {"of": "loading.load_model"}),
        ("channels-last-for-first", "keras.layers.Permute((3, 1, 2),", "keras.layers.Permute((3, 2, 1),", {"of": "loading.load_model"}),
        ("lambda-layers-let-in", "        if name in CODE:\n", "        if name in CODE and not part:\n", {"of": "loading.load_model"}),
        ("bytes-not-noticed", "        if input_range is None:\n", "        if input_range:\n", {"of": "loading.load_model"}),
        ("bytes-by-256", "np.asarray(raw / np.float32(255))", "np.asarray(raw / np.float32(256))", {"of": "loading.load_data"}),
        ("train-for-test-again", 'if part == "train" else (bundled.x_test', 'if part == "test" else (bundled.x_test'),
        ("slices-one-image-late", "stored.seek(offset + part.start * size)", "stored.seek(offset + (part.start + 1) * size)", {"of": "loading.load_data"}),
        ("folder-class-after-class", "_, labels, files = zip(*sorted(found), strict=True)", "_, labels, files = zip(*found, strict=True)", {"of": "loading.load_data"}),
        ("shapes-not-compared", "if want is not None and not _same(want, have):", "if want is None and not _same(want, have):"),
        ("fit-to-any-shape-of-that-size", "want not in ((math.prod(have),), have[:2] if have[2] == 1 else None)", "math.prod(want) != math.prod(have)"),
        ("fit-takes-probabilities", "    except ProbabilitiesNotLogitsError as error:\n        raise LoadError(", "    except ProbabilitiesNotLogitsError:\n        return loaded\n        raise LoadError("),
        ("modules-of-the-current-folder-unseen", "sys.path.insert(0, os.getcwd())", "pass"),
        ("module-errors-pass-through", "except Exception as error:  # a module of the user's may raise anything", "except ImportError as error:"),
    ),
    *_in(
        "cluster.py", "05 13", "cluster",
        ("shards-as-they-finish", "            found[i] = result\n", "            found[next(k for k, f in enumerate(found) if f is None)] = result\n"),
        ("last-image-of-a-shard-lost", "(x[i : i + shard], y[i : i + shard], attacks", "(x[i : i + shard - 1], y[i : i + shard - 1], attacks"),
        ("flags-of-the-first-shard", "report.flags += sum(facts, robustness.Facts()).flags(name, eps)", "report.flags += facts[0].flags(name, eps)"),
        ("one-worker-for-all", "LocalCluster(n_workers=workers,", "LocalCluster(n_workers=1,"),
        ("threads-for-processes", "threads_per_worker=1, processes=True", "threads_per_worker=workers, processes=True"),
        ("workers-outlive-their-client", "            machines.close()\n", "            pass\n", {"of": "cluster.local"}),
        ("recipe-sent-unmade", "model.make() if isinstance(model, Recipe) else model", "model", {"of": "cluster.Recipe"}),
        ("recipe-made-when-sent", "        self.make = make\n", "        made = make()\n        self.make = lambda: made\n"),
        ("recipe-of-anything", "        if not callable(make):\n", "        if make is None:\n"),
    ),
    *_in(
        "sealed/__init__.py", "13", "seal",
        ("seal-not-compared", "if found.sha256 != self.sha256:", "if not found.sha256:"),
        ("set-hash-of-any-model", "json.dumps([name, question, answer])", "json.dumps([question, answer])", {"of": "sealed.Set"}),
        ("set-without-its-salt", 'hashlib.pbkdf2_hmac("sha256", text, bytes.fromhex(salt), rounds)', 'hashlib.pbkdf2_hmac("sha256", text, b"salt", rounds)'),
        ("sheet-later-answers-erase", "self.answers[name] |= _checked(given)", "self.answers[name] = _checked(given)"),
        ("sheet-percent-cut-off", "checked[question] = round(float(value))", "checked[question] = int(value)", {"of": "sealed.Sheet"}),
        ("sheet-every-call-a-try", "self.tries += any(self.answers.values())", "self.tries += 1"),
        ("board-believes-the-count", "right = _mark(exam, answers)\n    note", 'right = entry["right"]\n    note', {"of": "sealed.merge"}),
        ("board-fewest-first", 'key=lambda row: (-row["right"], row["tries"], row["when"])', 'key=lambda row: (row["right"], row["tries"], row["when"])'),
        ("board-most-tries-first", '(-row["right"], row["tries"], row["when"]) <', '(-row["right"], -row["tries"], row["when"]) <', {"of": "sealed.merge"}),
        ("board-latest-is-the-earliest", 'return row["when"] >= before["when"]', 'return row["when"] <= before["when"]', {"of": "sealed.merge"}),
    ),
    # --- what a lesson says, and shows
    *_in(
        "check.py", "00 01", "check",
        ("check-inverted", "    if _one_bool(claim, condition):\n", "    if not _one_bool(claim, condition):\n"),
        ("check-of-any-value", "if array is not None and array.dtype == bool and array.ndim == 0:", "if array is not None and array.ndim == 0:", {"of": "check.check"}),
        ("check-never-fails", "    raise CheckFailed(", "    CheckFailed("),
        ("approx-share-not-in-per-cent", 'text = f"{100 * value:.', 'text = f"{value:.'),
        ("approx-one-digit-less", "decimals = digits - 1 - math.floor", "decimals = digits - 2 - math.floor"),
        ("approx-near-zero-allowed", "    if abs(value) < SMALLEST:\n", "    if value < 0 and abs(value) < SMALLEST:\n"),
        ("approx-count-beyond-its-whole", "or not 0 <= value <= of:", "or value < 0:", {"of": "check.approx"}),
    ),
    *_in(
        "report/__init__.py", "13", "report report_page",
        ("page-share-not-in-per-cent", '"percent": lambda share: f"{100 * share:', '"percent": lambda share: f"{share:'),
        ("page-amber-before-red", 'key=lambda flag: flag.colour != "red"', 'key=lambda flag: flag.colour == "red"'),
        ("page-runs-what-strangers-wrote", "autoescape=True", "autoescape=False"),
        ("page-counts-from-the-worst-case", "correct=int(report.still_correct(CLEAN).sum())", "correct=int(report.still_correct(WORST).sum())"),
        ("json-lengths-not-compared", 'if len(values) != about["n"]:', "if not values:"),
        ("json-attacks-not-compared", 'if set(names) != set(about["attacks"]):', 'if not set(names) >= set(about["attacks"]):'),
        ("json-without-its-schema", "    if error is not None:\n        message", "    if error is not None and not about:\n        message"),
    ),
    *_in(
        "plots.py", "00 03", "plots",
        ("interval-ends-swapped", "return [[max(p - low, 0)], [max(high - p, 0)]]", "return [[max(high - p, 0)], [max(p - low, 0)]]", {"of": _BARS, "lessons": "05 11 10"}),
        ("per-cent-of-per-cent", 'return f"{100 * p:.1f} %"', 'return f"{p:.1f} %"', {"of": "plots.images plots.accuracies plots.intervals plots.certified plots.confidences"}),
        ("grey-stretched", 'x[i] if x.shape[3] == 3 else x[i, :, :, 0], cmap="gray", vmin=0, vmax=1', 'x[i] if x.shape[3] == 3 else x[i, :, :, 0], cmap="gray"', {"lessons": "02 03"}),
        ("confidence-not-normalised", "float(p.max() / p.sum())", "float(p.max())"),
        ("colours-of-the-largest-value", "limit = float(np.abs(delta).max()) or 1.0 if limit is None else float(limit)\n    fig, axes", "limit = float(delta.max()) or 1.0 if limit is None else float(limit)\n    fig, axes"),
        ("blue-raises-a-pixel", 'cmap=CHANGE', 'cmap=CHANGE.reversed()'),
        ("channels-lost", "delta = delta.mean(axis=3) if", "delta = delta[..., 0] if"),
        ("band-around-nothing", 'ax.fill_between(eps, table["low"], table["high"]', 'ax.fill_between(eps, table["accuracy"], table["high"]', {"lessons": "05 02"}),
        ("curve-over-its-rows", 'eps = table["eps"].to_numpy()', "eps = np.arange(len(table))", {"lessons": "05 02"}),
        ("curve-axis-not-whole", 'ax.set(ylim=(0, 1), ylabel=ylabel, xlabel=', 'ax.set(ylabel=ylabel, xlabel=', {"lessons": "05 02"}),
        ("bars-of-the-worst-case", "value = np.array([report.accuracy(r) for r in here])", "value = np.array([report.accuracy(WORST) for r in here])", {"lessons": "05"}),
        ("bars-with-halved-lines", "xerr=np.abs(ends - value), fmt", "xerr=np.abs(ends - value) / 2, fmt", {"lessons": "05"}),
        ("proportion-of-the-first", "ax.errorbar(k / n, row,", "ax.errorbar(k / max(n for _, n in counts.values()), row,", {"lessons": "05 01"}),
        ("floor-above-its-ceiling", "if any(a < b for a, b in itertools.pairwise(down)):", "if any(a < b for a, b in itertools.pairwise(counts.values())):", {"lessons": "11"}),
        ("matrix-transposed", "np.add.at(counts, (y, predicted), 1)", "np.add.at(counts, (predicted, y), 1)", {"lessons": "01"}),
        ("matrix-share-of-the-column", "share, (a, b) = counts[c, c] / n,", "share, (a, b) = counts[c, c] / max(counts[:, c].sum(), 1),", {"lessons": "01"}),
        ("confidence-of-the-first-class", "sure = p.max(axis=1) / p.sum(axis=1)", "sure = p[:, 0] / p.sum(axis=1)"),
        ("median-is-a-mean", "{name}: median {_confidence(np.median(sure))}", "{name}: median {_confidence(np.mean(sure))}"),
        ("heatmap-upside-down", 'shown = ax.imshow(values, cmap="cividis_r"', 'shown = ax.imshow(values[::-1], cmap="cividis_r"', {"lessons": "12"}),
        ("heatmap-in-tenths", 'f"{100 * values[i, j]:.0f}"', 'f"{10 * values[i, j]:.0f}"', {"lessons": "12"}),
        ("heatmap-beyond-one", "or not (values <= 1).all():", ":", {"lessons": "12"}),
        ("traces-without-their-steps", "                        table.index,\n", "                        range(len(table)),\n", {"lessons": "04 01"}),
        ("traces-one-panel", "panels = runs if nested else {\"\": runs}", "panels = dict([*runs.items()][:1]) if nested else {\"\": runs}", {"lessons": "04"}),
        ("traces-first-column-alone", "                        table[quantity],\n", "                        table[rows[0]],\n", {"lessons": "04 01"}),
        ("tradeoff-axes-swapped", "ax.errorbar(clean[0], robust[0], **ends", "ax.errorbar(robust[0], clean[0], **ends", {"lessons": "10"}),
        ("tradeoff-lines-swapped", '{"xerr": _ends(*clean), "yerr": _ends(*robust)}', '{"xerr": _ends(*robust), "yerr": _ends(*clean)}', {"lessons": "10"}),
        ("slider-starts-at-the-first", "index = values.index(value)", "index = 0", {"lessons": "02 10"}),
        ("slider-does-nothing", ', "value")\n', ', "index_")\n', {"lessons": "02 10"}),
        ("slider-any-number-of-figures", "if len(drawn) != 1:", "if not drawn:", {"of": "plots.sliders", "lessons": "02 10"}),
    ),
    *_in(
        "testing.py", "03 04", "testing",
        ("attack-out-of-the-ball-passes", "size <= eps + tolerance(ball.name, eps)", "size <= 2 * eps"),
        ("attack-worse-than-noise-passes", "gained > noise,", "gained >= 0,"),
        ("attack-by-place-passes", "(reverse == x_adv).all() and (alone == x_adv[: len(alone)]).all()", "(alone[:1] == x_adv[:1]).all()"),
        ("attack-on-wrong-images-passes", "            moved == 0,\n", "            moved >= 0,\n"),
    ),
    # --- the machinery around it, which is no module of the library's own
    *_in(
        "nbplugin.py", "00", "nbplugin check",
        ("points-for-per-cent", "points, percent = max(Decimal(\"0.5\"), tol)", "points, percent = max(Decimal(\"5\"), tol)"),
        ("later-lines-not-compared", 'for pair in zip(stored, got, strict=False) for difference', 'for pair in [(stored[0], got[0])] for difference'),
    ),
    *_in(
        "exercises/__init__.py", "00", "exercises",
        ("hints-never-given", "    if not np.all(condition):\n", "    if np.size(condition) == 0:\n"),
        ("quiz-counts-everything", 'elif letter == question["answer"]:', 'elif letter in "abcd":'),
    ),
    *_in(
        "cli.py", "13", "cli",
        ("red-flag-exits-with-0", "        return RED_FLAG\n", "        return 0\n"),
        ("fail-under-backwards", "report.robust_accuracy < fail_under", "report.robust_accuracy > fail_under"),
    ),
]  # fmt: skip


def text_of(file):
    return (PACKAGE / file).read_text(encoding="utf-8")


def broken(fault):
    """The text of the fault's file with the fault. ValueError where the patch does not fit exactly once."""
    text = text_of(fault.file)
    if text.count(fault.old) != 1:
        raise ValueError(
            f"{fault.name}: the patch fits {text.count(fault.old)} times in {fault.file}; once was expected: {fault.old!r}"
        )
    return text.replace(fault.old, fault.new)


# --- the public functions, read from the source


def _body(path):
    return ast.parse(path.read_text(encoding="utf-8")).body


def _constant(body, name):
    """The list that a module assigns to `name`; None without one."""
    for line in body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == name:
            return ast.literal_eval(line.value)
    return None


def _behaves(node):
    """Whether this is a function, or a class with methods: no exception, no mere record."""
    if isinstance(node, ast.ClassDef):
        bases = [getattr(base, "id", "") for base in node.bases]
        methods = any(isinstance(part, ast.FunctionDef) for part in node.body)
        return methods and not any(base.endswith(("Error", "Warning")) for base in bases)
    return isinstance(node, ast.FunctionDef)


def _is_module(path):
    return path.stem[0] not in "_." and (path.suffix == ".py" or (path / "__init__.py").is_file())


@cache
def _named():
    """Every function and class that looks public: "losses.margin" → (file, first line, last line)."""
    modules, found = sorted({path.stem for path in PACKAGE.iterdir() if _is_module(path)} - PROGRAMS), {}
    for module in modules:
        path = PACKAGE / module.replace(".", "/")
        files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        listed = _constant(_body(path / "__init__.py" if path.is_dir() else files[0]), "__all__")
        if path.is_dir():
            inside = [file.stem for file in files if file.stem in listed and module == "certify"]
            modules += [f"{module}.{name}" for name in inside]
        for file in files:
            for node in filter(_behaves, _body(file)):
                if node.name[0] != "_" and (listed is None or node.name in listed):
                    place = file.relative_to(PACKAGE).as_posix(), node.lineno, node.end_lineno
                    found[f"{module}.{node.name}"] = place
    return found


def _whole(name):
    """The public function that a part belongs to; itself where it is none."""
    module, _, own = name.rpartition(".")
    return next(
        (whole for whole, parts in PARTS.items() if own in parts.split() and _near(whole, module)), name
    )


def _near(whole, module):
    return whole == module or whole.rpartition(".")[0] == module


def public():
    """The names of the public functions, such as "attacks.pgd" and "robustness.Report", sorted."""
    return sorted({_whole(name) for name in _named()})


def functions(fault):
    """The public functions whose behaviour a fault changes; empty where neither `of` nor its place says so."""
    if fault.of:
        return fault.of
    line = text_of(fault.file).partition(fault.old)[0].count("\n") + 1 + (fault.old[0] == "\n")
    for name, (file, first, last) in _named().items():
        if file == fault.file and first <= line <= last:
            return (_whole(name),)
    if fault.file.startswith("attacks/"):  # an attack's file is the attack
        name = f"attacks.{Path(fault.file).stem}"
        return (name,) if name in _named() else ("attacks.BlackBox",) * (name == "attacks.black_box")
    return ()


# Mutants of `mutate.py --general` that change no result and no error's meaning: file, the part of a line, what it becomes, and why.
EQUIVALENT = [
    ("norms.py", "tf.zeros_like(s) - 1)", "tf.zeros_like(s) * 1)", "the first comparison is s > 0 then, false only where ε is 0 and s stays 0"),
    ("norms.py", "(level <= 0)", "(level == 0)", "λ starts at 0, and a step below the bracket is replaced by its half"),
    ("norms.py", "(over <= 0)", "(over < 0)", "a sum of exactly ε is within the tolerance on the left of the |"),
    ("norms.py", "(guess > high)", "(guess != high)", "bisection instead of Newton's steps: more rounds, of 60, and the same λ"),
    ("norms.py", "reduce_any(s > last)", "reduce_any(s != last)", "s never shrinks"),
    ("norms.py", "reduce_any(s > last)", "reduce_any(s >= last)", "a further round, of ten at most, changes no bit"),
    ("norms.py", "120_000 / 255", "120_000 - 255", "any step that long takes a pixel to black or white"),
    ("norms.py", "120_000 / 255", "120001 / 255", "any step that long takes a pixel to black or white"),
    ("norms.py", '"DESCENDING", stable=True', '"DESCENDING", stable=False', "TensorFlow has no other sort than a stable one"),
    ("norms.py", "level + tf.math.divide_no_nan", "level - tf.math.divide_no_nan", "bisection instead of Newton's steps"),
    ("norms.py", "(t % 2 == 0)", "(t % 1 == 0)", "bisection instead of Newton's steps after the twelfth round"),
    ("certify/crown.py", "unstable = (l < 0)", "unstable = (l <= 0)", "at l = 0 both lines are v itself, as for a neuron that is on"),
    ("certify/crown.py", "tf.where(rows >= 0, rows * low", "tf.where(rows > 0, rows * low", "0 · low is 0 · high"),
    ("certify/crown.py", "tf.where(rows >= 0, rows * below", "tf.where(rows > 0, rows * below", "0 times either slope is 0"),
    ("certify/crown.py", 'waits = name == "relu"', 'waits = name >= "relu"', "the name is relu or linear there"),
    ("certify/intervals.py", 'layer.data_format != "channels_last"', 'layer.data_format < "channels_last"', "the other one is channels_first"),
    ("certify/intervals.py", ".random((2, *model", ".random((3, *model", "two images or three: the chain is compared with the model on them"),
    ("certify/lipschitz.py", "default_rng(0)", "default_rng(1)", "a start of Lanczos' iteration is as good as another"),
    ("certify/lipschitz.py", "vectors=False)[0])", "vectors=False)[-1])", "there is one singular value"),
    ("robustness.py", '"budgets", delay=5, leave=False', '"budgets", delay=5, leave=True', "where a bar stays on the screen when it is full"),
    ("robustness.py", 'kind == "f"', 'kind <= "f"', "that is for arrays of bool too, which hold no NaN"),
    ("robustness.py", "example=1000)", "example=999)", "a number in a message that any other would serve"),
    ("robustness.py", "off <= 1e-3", "off < 1e-3", "sums of floats do not miss 1 by this very number"),
    ("certify/smoothing.py", "def predict(model, x, *, sigma, samples=1000, alpha=0.001, seed=0, batch_size=500", "def predict(model, x, *, sigma, samples=1000, alpha=0.001, seed=0, batch_size=501", "results do not depend on the size of batches"),
    ("certify/smoothing.py", '"samples", low=1, integer=True, example=1000', '"samples", low=1, integer=True, example=999', "a number in a message that any other would serve"),
    ("attacks/apgd.py", "(gradient > 0)", "(gradient >= 0)", "no step moves a pixel without a gradient"),
    ("attacks/apgd.py", "(z <= 0.0)", "(z == 0.0)", "no point is below 0"),
    ("attacks/apgd.py", 'ball.name != "l1"', 'ball.name > "l1"', "the other two names come after it"),
    ("attacks/boundary.py", "SIDES, WINS = 10, 30", "SIDES, WINS = 10, 29", "a constant of the search: one question fewer serves as well"),
    ("attacks/bpda.py", 'name == "surrogate"', 'name >= "surrogate"', "the other name is defence"),
    ("attacks/deepfool.py", "tf.where(never, 1.0, slope)", "tf.where(never, 2.0, slope)", "a divisor for what the where around it throws away"),
    ("attacks/deepfool.py", "ball.size(total) > 0", "ball.size(total) != 0", "a size is never negative"),
    ("attacks/deepfool.py", "candidate=False", "candidate=True", "x is not broken, unless two compiled functions round a tie differently"),
    ("attacks/eot.py", "parallel_iterations=1", "parallel_iterations=2", "each draw takes numbers of its own, whichever comes first"),
    ("attacks/eot.py", "parallel_iterations=1", "parallel_iterations=0", "each draw takes numbers of its own, whichever comes first"),
    ("attacks/eot.py", "tf.abs(total - 1) < 1e-3", "tf.abs(total - 1) <= 1e-3", "sums of floats do not miss 1 by this very number"),
    ("attacks/fmn.py", "-group.best_value, 0)", "-group.best_value, -1)", "of a start that is not adversarial: its distance is not used, and in L0 it is at least 1"),
    ("attacks/hop_skip_jump.py", "max(784, z[0].size)", "max(783, z[0].size)", "how many probes are asked at once: one more or less"),
    ("attacks/hop_skip_jump.py", "reshape(-1, block)", "reshape(-2, block)", "NumPy takes any negative number for what is left"),
    ("attacks/hop_skip_jump.py", "gradient=False", "gradient=True", "a guard: nothing here asks for a gradient"),
    ("attacks/nes.py", "gradient=False", "gradient=True", "a guard: nothing here asks for a gradient"),
    ("attacks/nes.py", "(1 - decay) *", "(1 + decay) *", "of the mean only the direction counts"),
    ("attacks/nes.py", "(1 - decay) *", "(2 - decay) *", "of the mean only the direction counts"),
    ("attacks/square.py", "u[:, 1:] < 0.5", "u[:, 1:] > 0.5", "a coin the other way round"),
    ("attacks/universal.py", "steps=10", "steps=11", "a limit that few images come to"),
    ("attacks/universal.py", 'unit="step", delay=5', 'unit="step", delay=4', "when a bar appears"),
    ("attacks/universal.py", "constants, False, x", "constants, True, x", "whether images are broken is not asked here"),
    ("attacks/deepfool.py", "slope == 0", "slope == -1", "0/0 is NaN, which TensorFlow's argmin passes over; the code does not rely on it"),
    ("attacks/deepfool.py", "slope == 0", "slope < 0", "0/0 is NaN, which TensorFlow's argmin passes over; the code does not rely on it"),
    ("attacks/carlini_wagner.py", "search == searches - 1", "search >= searches - 1", "the last one is never passed"),
    ("attacks/nes.py", "low=0, example=0.01", "low=0, example=1.01", "a number in a message that any other would serve"),
    ("attacks/universal.py", "signs * np.float32(eps)", "signs - np.float32(eps)", "in L∞ the same corner, in L2 a start as good"),
    ("attacks/autoattack.py", "max() > 1e-4", "max() >= 1e-4", "distances of floats do not meet this very number"),
    ("attacks/patch.py", "seed=0, batch_size=144", "seed=0, batch_size= 143", "one image fewer in a call"),
    ("certify/lipschitz.py", "rule is k.Conv2D", "rule == k.Conv2D", "a type is equal to itself alone"),
    ("attacks/fgsm.py", "candidate=False", "candidate=True", "the step takes the place of the best point in the end"),
    ("attacks/fgsm.py", "early_stop=False", "early_stop=True", "it never looks at the model's answer"),
    ("attacks/bim.py", "integer=True", "integer=False", "pgd asks again, in the same words"),
    ("attacks/mi_fgsm.py", "low=0, example=0.01", "low=0, example=1.01", "a number in a message that any other would serve"),
    ("attacks/bim.py", '!= "l0"', '> "l0"', "the names of the other norms come after it"),
]  # fmt: skip
