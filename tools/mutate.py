"""Break the library on purpose and see who notices: python tools/mutate.py [NAME …] [--by notebooks | tests].

Each fault is a small patch of one file, applied to a copy of `advlib`; it must fit exactly once, or the catalogue is out of
date and the run fails. Then the notebooks (or the unit tests) run against the broken copy, the likeliest first, until one
fails. A fault that nobody notices survives, and the exit status is 1.

    python tools/mutate.py --list
    python tools/mutate.py fgsm-sign no-box-clip
    python tools/mutate.py --by tests
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Fault:
    """A realistic mistake: `old` becomes `new` in `file`. lessons, tests: where it is likeliest to be noticed, asked first."""

    name: str
    file: str
    old: str
    new: str
    lessons: tuple
    tests: tuple


PGD, LOOP, NORMS, ROBUST = "attacks/pgd.py", "attacks/_loop.py", "norms.py", "robustness.py"
FAULTS = [
    Fault("ascent-sign", PGD, "z + alpha * ball.steepest", "z - alpha * ball.steepest", ("03",), ("attacks",)),
    Fault("fgsm-sign", "attacks/fgsm.py", "ball, eps, ball.step(eps))", "ball, eps, -ball.step(eps))", ("00", "03"), ("attacks",)),
    Fault("no-box-clip", NORMS, "tf.clip_by_value(tf.clip_by_value(z, x - eps, x + eps), 0.0, 1.0)", "tf.clip_by_value(z, x - eps, x + eps)", ("03", "04"), ("norms",)),
    Fault("no-ball-clip", NORMS, "tf.clip_by_value(tf.clip_by_value(z, x - eps, x + eps), 0.0, 1.0)", "tf.clip_by_value(z, 0.0, 1.0)", ("04",), ("norms",)),
    Fault("ball-around-last-step", PGD, "ball.steepest(at.gradient, at.z), at.x, eps)", "ball.steepest(at.gradient, at.z), at.z, eps)", ("04",), ("attacks",)),
    Fault("no-random-start", PGD, "elif random_start:", "elif False:", ("04",), ("attacks",)),
    Fault("same-start-each-restart", PGD, 'group.streams("start", restart)', 'group.streams("start")', ("04",), ("attacks",)),
    Fault("start-outside-the-box", PGD, "z = ball.project(z + np.stack(delta), group.x, eps).numpy()", "z = z + np.stack(delta)", ("04",), ("attacks",)),
    Fault("one-step-too-few", PGD, "for _ in range(steps):", "for _ in range(steps - 1):", ("04",), ("attacks",)),
    Fault("small-default-step", PGD, "ball.step(2.5 * eps / max(steps, 1))", "ball.step(0.25 * eps / max(steps, 1))", ("04",), ("attacks",)),
    Fault("last-for-best", LOOP, 'if self.keep == "last":', "if True:", ("04",), ("attacks",)),
    Fault("best-by-loss-alone", LOOP, "(broken & ~self.broken[i]) | as_good | ~self.known[i]", "(value >= self.best_value[i]) | ~self.known[i]", ("04",), ("attacks",)),
    Fault("attacks-the-wrong-ones-too", LOOP, "np.flatnonzero((z.argmax(axis=1) == y[part]) & ~np.isnan(z).any(axis=1))", "np.arange(len(z))", ("05", "03"), ("attacks",)),
    Fault("target-ignored", LOOP, "if self.target is None else predicted == self.target[i]", "if True else None", ("03", "04"), ("attacks",)),
    Fault("target-sign", "losses.py", "return -cross_entropy(z, t)", "return cross_entropy(z, t)", ("03",), ("losses",)),
    Fault("softmax-for-logits", "losses.py", "sparse_softmax_cross_entropy_with_logits(y, z)", "sparse_softmax_cross_entropy_with_logits(y, tf.nn.softmax(z))", ("01", "03"), ("losses",)),
    Fault("margin-of-the-best", "losses.py", "tf.where(is_y, tf.cast(-float(\"inf\"), z.dtype), z)", "z", ("04",), ("losses",)),
    Fault("probabilities-accepted", "_checks.py", "raise ProbabilitiesNotLogitsError(", "ProbabilitiesNotLogitsError(", ("05", "03"), ("models",)),
    Fault("norm-over-the-batch", NORMS, "tf.sqrt(tf.reduce_sum(tf.square(delta), axis=(1, 2, 3), keepdims=True))", "tf.sqrt(tf.reduce_sum(tf.square(delta), keepdims=True))", ("03", "04"), ("norms",)),
    Fault("l2-clip-after-ball", NORMS, "maximum_iterations=10)", "maximum_iterations=0)", ("04",), ("norms",)),
    Fault("success-of-all", ROBUST, "float(self.broken(name).sum() / right)", "float(self.broken(name).sum() / self.n)", ("05",), ("robustness",)),
    Fault("wrong-ones-left-out", ROBUST, "return float(self.still_correct(name).mean())", "return float(self.still_correct(name)[self.prediction == self.y].mean())", ("05",), ("robustness",)),
    Fault("budget-not-measured", ROBUST, "feasible = finite & (beyond == 0) & ~too_far", "feasible = finite", ("05",), ("robustness",)),
    Fault("one-attack-for-all", ROBUST, "if name in (attack, WORST):\n                right =", "if name == attack or attack == [*self.outcomes][-1]:\n                right =", ("05",), ("robustness",)),
    Fault("noise-one-sided", "noise.py", "rng.uniform(-1, 1, shape)", "rng.uniform(0, 1, shape)", ("02",), ("noise",)),
    Fault("noise-unclipped", "noise.py", "np.clip(x + np.float32(strength) * noise, 0, 1)", "x + np.float32(strength) * noise", ("02",), ("noise",)),
    Fault("seed-ignored", LOOP, "key=repr((seed, *purpose))", "key=repr(purpose)", ("02", "04"), ("noise",)),
    Fault("threshold-never-reached", "training/fit.py", "history.loss[-1] < threshold", "history.loss[-1] < 0", ("01",), ("training",)),
    Fault("order-not-shuffled", "training/fit.py", "np.random.default_rng([seed, epoch]).permutation(n)", "np.arange(n)", ("01",), ("training",)),
    Fault("deepfool-last-step-only", "attacks/deepfool.py", "    total += column(distance)", "    total = column(distance)", ("06",), ("deepfool",)),
    Fault("ddn-radius-backwards", "attacks/ddn.py", "1 - gamma, 1 + gamma", "1 + gamma, 1 - gamma", ("06",), ("ddn",)),
    Fault("fmn-radius-never-shrinks", "attacks/fmn.py", "tf.minimum((1 - gamma) * eps, best)", "(1 + gamma) * eps", ("06",), ("fmn",)),
    Fault("cw-search-backwards", "attacks/carlini_wagner.py", "low, high = np.where(won, low, c), np.where(won, c, high)", "low, high = np.where(won, c, low), np.where(won, high, c)", ("06",), ("carlini_wagner",)),
    Fault("last-for-smallest", LOOP, "better = broken & (worth > self.best_value[i])", "better = broken", ("06",), ("ddn", "fmn")),
    Fault("square-keeps-everything", "attacks/square.py", "better = margin > value[i]", "better = margin > -np.inf", ("07",), ("square",)),
    Fault("queries-not-counted", LOOP, "np.add.at(self.queries, i, 1)", "None", ("07",), ("square",)),
    Fault("box-counts-calls", LOOP, "self.box.queries += len(index)", "self.box.queries += 1", ("07",), ("black_box",)),
    Fault("box-gives-gradients", LOOP, "if self.box or not self.gradient:", "if not self.gradient:", ("07",), ("black_box",)),
    Fault("normal-backwards", "attacks/hop_skip_jump.py", "mean[:, 0] - mean[:, 1]", "mean[:, 1] - mean[:, 0]", ("07",), ("decision_based",)),
    Fault("apgd-never-halves", "attacks/apgd.py", "tf.where(stuck, eta / 2, eta)", "eta", ("07",), ("apgd",)),
    Fault("autoattack-on-all-again", "attacks/autoattack.py", "standing = attacked[lead[attacked] <= 0]", "standing = attacked", ("07",), ("autoattack",)),
    Fault("transfer-of-wrong-ones", "attacks/transfer.py", "(self.prediction[source] == self.y) & (self.prediction[target] == self.y)", "self.prediction[target] >= 0", ("07",), ("transfer",)),
    Fault("trains-on-clean-images", "training/_trainer.py", "z = tf.stop_gradient(self.craft(x, y))", "z = x", ("10",), ("defences",)),
    Fault("crafts-in-training-mode", "training/_trainer.py", "loss(self.network(z, training=False), y)", "loss(self.network(z, training=True), y)", ("10",), ("defences",)),
    Fault("loss-not-shared-by-replicas", "training/_trainer.py", "1 / (context.all_reduce(\"sum\", count) if context.num_replicas_in_sync > 1 else count)", "1 / count", ("10",), ("defences",)),
    Fault("every-replica-the-same-noise", "training/_trainer.py", "np.stack(drawn[first:])", "np.stack(drawn[:n])", ("10",), ("defences",)),
    Fault("noise-never-fresh", "training/_trainer.py", "default_rng([self.seed, int(update)])", "default_rng([self.seed])", ("10",), ("defences",)),
    Fault("no-ramp", "training/_trainer.py", "return self.train_eps * self.progress(0.0, self.ramp)", "return tf.constant(self.train_eps)", ("10",), ("defences",)),
    Fault("one-inner-step", "training/pgd.py", "for _ in range(self.steps):", "for _ in range(1):", ("10",), ("defences",)),
    Fault("trades-one-sided", "training/trades.py", "kl(logits, clean, constant=False)", "kl(logits, clean)", ("10",), ("defences",)),
    Fault("trades-starts-at-x", "training/trades.py", "0.001 * rng.standard_normal(shape)", "0 * rng.standard_normal(shape)", ("10",), ("defences",)),
    Fault("free-forgets", "training/free.py", "if self.warm else tf.zeros_like(x)", "if False else tf.zeros_like(x)", ("10",), ("defences",)),
    Fault("alarm-asleep", "training/adversarial_fit.py", "ALARM_GAP, ALARM_JUMP = 0.15, 0.10", "ALARM_GAP, ALARM_JUMP = 1.5, 1.0", ("10",), ("defences",)),
    Fault("last-epoch-kept", "training/adversarial_fit.py", "scores[trainer.chosen_by] >= self.top", "True", ("10",), ("defences",)),
    Fault("epoch-order-lost-on-resume", "training/adversarial_fit.py", "trainer.updates // (steps * trainer.updates_per_batch)", "0", ("10",), ("defences",)),
    Fault("ibp-forgets-negative-weights", "certify/intervals.py", "radius @ tf.abs(kernel)", "radius @ kernel", ("11",), ("certify",)),
    Fault("ibp-worst-of-the-true-class", "certify/intervals.py", "return tf.where(own, np.float32(-np.inf), middle + radius)", "return tf.where(own, np.float32(-np.inf), middle)", ("11",), ("certify",)),
    Fault("ibp-box-ignored", "certify/intervals.py", "return tf.maximum(x - eps, 0.0), tf.minimum(x + eps, 1.0)", "return x - eps / 2, x + eps / 2", ("11",), ("certify",)),
    Fault("smoothing-two-sided", "certify/smoothing.py", "beta.ppf(alpha, k, np.asarray(n) - k + 1)", "beta.ppf(alpha / 2, k, np.asarray(n) - k + 1)", ("11",), ("certify",)),
    Fault("smoothing-counts-used-twice", "certify/smoothing.py", "lower_bound(votes[1][np.arange(len(label)), label], samples, alpha)", "lower_bound(votes[0][np.arange(len(label)), label], selection, alpha)", ("11",), ("certify",)),
    Fault("smoothing-never-abstains", "certify/smoothing.py", "sure = share >= 0.5", "sure = share >= 0.0", ("11",), ("certify",)),
    Fault("stamp-elsewhere", "exhibits.py", "x[:, -2 - STAMP : -2, -2 - STAMP : -2] = 1.0", "x[:, 2 : 2 + STAMP, 2 : 2 + STAMP] = 1.0", ("12",), ("exhibits",)),
    Fault("mce-of-sums", "corruptions.py", "return float((own / base).mean())", "return float(own.sum() / base.sum())", ("12",), ("corruptions",)),
    Fault("identity-among-the-corruptions", "corruptions.py", 'if k != "identity"]', "]", ("12",), ("corruptions",)),
    Fault("momentum-not-summed", "attacks/mi_fgsm.py", "m = decay * m + ", "m = ", ("07",), ("attacks",)),
    Fault("pixels-by-256", "data.py", "/ np.float32(255)", "/ np.float32(256)", ("00",), ("data",)),
    Fault("train-for-test", "data.py", 'images["x_test"], labels["y_test"]', 'images["x_train"], labels["y_train"]', ("00",), ("data",)),
]  # fmt: skip


def broken_copy(fault, folder):
    """A copy of advlib with the fault, in `folder`. SystemExit where the patch does not fit exactly once."""
    copy = folder / "advlib"
    if not copy.exists():  # data and weights are linked, not copied
        shutil.copytree(ROOT / "advlib", copy, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
        for array in (ROOT / "advlib").rglob("*.npz"):
            (copy / array.relative_to(ROOT / "advlib")).symlink_to(array)
    path = copy / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise SystemExit(
            f"{fault.name}: the patch fits {text.count(fault.old)} times in {fault.file}; once was expected: {fault.old!r}"
        )
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def likeliest_first(fault, by):
    if by == "notebooks":
        files = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
        first = [f for n in fault.lessons for f in files if f.name.startswith(n)]
    else:
        files = sorted((ROOT / "tests").glob("test_*.py"))
        files = [
            f
            for f in files
            if f.stem not in ("test_setup", "test_browser", "test_notebooks", "test_nbplugin", "test_check")
        ]
        first = [f for n in fault.tests for f in files if f.stem == f"test_{n}"]
    return first + [f for f in files if f not in first]


def who_notices(fault, by):
    """The first file that fails against the broken library, or None."""
    with tempfile.TemporaryDirectory() as folder:
        broken_copy(fault, Path(folder))
        environment = {**os.environ, "PYTHONPATH": folder, "ADVLIB_PROGRESS": "0"}
        for file in likeliest_first(fault, by):
            options = (
                ["--nbval"]
                if by == "notebooks"
                else ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
            )
            # away from the repository: there, `advlib` would be the sound one
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                *options,
                str(file),
            ]
            result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            if result.returncode == 1:
                return file.name
            if result.returncode:
                raise SystemExit(
                    f"{fault.name}: pytest could not run {file.name}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
                )
    return None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="faults to try; all of them if none is named")
    parser.add_argument("--by", choices=("notebooks", "tests"), default="notebooks")
    parser.add_argument("--list", action="store_true", help="only list the faults, and see that each fits")
    arguments = parser.parse_args()
    known = {fault.name: fault for fault in FAULTS}
    unknown = set(arguments.names) - set(known)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    chosen = [known[name] for name in arguments.names] or FAULTS
    survivors = []
    for fault in chosen:
        if arguments.list:
            with tempfile.TemporaryDirectory() as folder:
                broken_copy(fault, Path(folder))
            print(f"{fault.name:28} {fault.file}")
            continue
        began = time.perf_counter()
        noticed = who_notices(fault, arguments.by)
        print(f"{fault.name:28} {noticed or 'SURVIVES':32} {time.perf_counter() - began:5.0f} s", flush=True)
        survivors += [] if noticed else [fault.name]
    if not arguments.list:
        print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults noticed by the {arguments.by}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
