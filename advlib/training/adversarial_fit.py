"""Running a defence: schedule, validation after each epoch, the alarm for collapse, resuming. Lesson 10."""

import time

import numpy as np
from tqdm.auto import tqdm

from advlib._checks import check_images, check_labels, check_number, predicted_classes
from advlib._tensorflow import keras, tf
from advlib.attacks import fgsm, pgd
from advlib.attacks._loop import quiet
from advlib.diagnostics import Flag, raise_flag
from advlib.models import predict_logits
from advlib.training._resume import Resume
from advlib.training._trainer import Trainer
from advlib.training.fit import History, check_training, order
from advlib.training.free import Free

# What the alarm takes for a collapse, in accuracy on validation images (ALARM_GAP: FGSM above PGD-20; ALARM_JUMP: its growth).
ALARM_GAP, ALARM_JUMP = 0.15, 0.10


def adversarial_fit(
    trainer, x, y, *, validation, epochs=10, batch_size=100, learning_rate=2e-3, keep="best", folder=None, callbacks=(),
    callback=None,
):  # fmt: skip
    """Train a defence, measure every epoch on validation images, and end with the weights of the best one.

    trainer: a `Trainer`, for example PGD(net, eps=0.3); its network is trained in place, with Adam. x: float32 (N, H, W, C) in
    [0, 1]; y: labels (N,). validation: (x, y), never test data: after each epoch clean, FGSM and PGD-20 accuracy are measured
    on it, at the full ε, and what else the defence is judged by (see `Trainer.scores`). learning_rate: the peak of
    `Triangle`, reached after 40 % of all updates. keep: "best" keeps the weights of the epoch with the best score
    (`trainer.chosen_by`), and stops at a collapse; "last" keeps what comes last, whatever it is.
    folder: where the state is kept after each epoch; the same call with the same folder goes on from there, and ends with the
    same weights, bit for bit, as a run that was never interrupted; other arguments raise a ValueError. callbacks: of Keras,
    whose plain attributes are restored as well; callback: called with (epoch, History) after each epoch.

    Returns a History. Raises TypeError or ValueError for bad input; raises a Flag, as a FlagWarning, when FGSM accuracy runs
    ahead of PGD-20 accuracy, as it does when single-step training collapses (Wong, Rice & Kolter 2020, arXiv 2001.03994, §5.4):
    with ε at its full size, by over 15 points, or by over 10 more than an epoch before; and when the network or an attack on
    it returns NaN: such an image counts as wrong, such an epoch is never the best, and weights that are NaN end the run,
    whatever `keep` is. Lesson 10.

        >>> adversarial_fit(PGD(net, eps=0.3), x_fit, y_fit, validation=(x_val, y_val), folder="runs/pgd")
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"the trainer is a {type(trainer).__name__}: a Trainer was expected, for example training.PGD(net, eps=0.3)"
        )
    x, y = check_training(trainer.network, x, y, epochs, batch_size)
    x_val = check_images(validation[0], "validation x")
    y_val = check_labels(validation[1], len(x_val), trainer.network.output_shape[-1], name="validation y")
    check_number(learning_rate, "learning_rate", above=0, example=2e-3)
    if keep not in ("best", "last"):
        raise ValueError(f"keep={keep!r}: 'best' or 'last' was expected, for example keep='best'")

    largest = min(batch_size, len(x))
    if isinstance(trainer, Free) and trainer.warm and largest > trainer.batch_size:
        raise ValueError(
            f"batch_size={batch_size}, and Free keeps δ for {trainer.batch_size} images: at most as many were expected, "
            f"for example training.Free(net, eps=0.3, batch_size={largest})"
        )

    steps = -(-len(x) // batch_size)
    trainer.total = epochs * steps * trainer.updates_per_batch
    with trainer.distribute_strategy.scope():
        trainer.compile(keras.optimizers.Adam(Triangle(learning_rate, trainer.total), epsilon=1e-8))
        trainer.optimizer.build(trainer.network.trainable_variables)
    history = History()
    watch = Watch((x_val, y_val), history, keep=keep, callback=callback)
    bar = Bar(epochs * steps, watch)
    callbacks, first = [watch, *callbacks, bar], 0
    if folder is not None:
        settings = (x, y, x_val, y_val), [epochs, batch_size, learning_rate, keep]
        resume = Resume(folder, trainer, watch, callbacks, *settings)
        first = resume.load()
        callbacks = [*callbacks, resume]
    if first < epochs and history.stopped_by == "epochs":
        trainer.fit(
            batches(trainer, x, y, batch_size), epochs=epochs, initial_epoch=first, shuffle=False, verbose=0, callbacks=callbacks
        )  # fmt: skip
    if watch.best is not None:
        trainer.network.set_weights(watch.best)
    return history


@keras.saving.register_keras_serializable("advlib")
class Triangle(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that climbs linearly to `peak` over 40 % of `total` updates and falls linearly to 0 over the rest.

    Source: the schedule of Wong, Rice & Kolter 2020, arXiv 2001.03994, for MNIST."""

    def __init__(self, peak, total):
        self.peak, self.total = float(peak), int(total)

    def __call__(self, step):
        done = tf.cast(step, tf.float32) / self.total
        return self.peak * tf.maximum(tf.minimum(done / 0.4, (1 - done) / 0.6), 0.0)

    def get_config(self):
        return {"peak": self.peak, "total": self.total}


def batches(trainer, x, y, batch_size):
    """Batches of one epoch after the other, in `order(len(x), trainer.seed, epoch)`: the number of updates made says which."""
    x, y = tf.constant(x), tf.constant(y)
    steps = -(-len(x) // batch_size)

    def rows():
        return order(len(x), trainer.seed, trainer.updates // (steps * trainer.updates_per_batch))

    data = tf.data.Dataset.range(1).map(
        lambda _: tf.ensure_shape(tf.numpy_function(rows, [], tf.int64), [len(x)])
    )
    data = data.flat_map(tf.data.Dataset.from_tensor_slices).batch(batch_size)
    data = data.map(lambda rows: (tf.gather(x, rows), tf.gather(y, rows))).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = (
        False  # its thread makes some epochs run on one core: 51 ms an update instead of 29
    )
    return data.apply(tf.data.experimental.assert_cardinality(steps)).with_options(options)


class Watch(keras.callbacks.Callback):
    """After each epoch: accuracies on validation images, the best weights so far, and the alarm.

    For a `fit` of your own: `trainer.fit(x, y, callbacks=[Watch((x_val, y_val))])`; the scores are then in its logs, the best
    weights in `.best`, None with keep="last". Arguments as in `adversarial_fit`. Lesson 10."""

    kept_elsewhere = ("validation", "best")  # see `Resume`

    def __init__(self, validation, history=None, *, keep="best", callback=None):
        super().__init__()
        x, y = validation
        self.validation = check_images(x), check_labels(y, len(x))
        self.keep, self.callback = keep, callback
        self.history, self.best, self.top, self.last_gap = history or History(), None, -np.inf, None

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        trainer, history, lost = self.model, self.history, {}
        scores = validate(trainer, *self.validation, lost)
        logs.update(scores)
        history.loss.append(float(logs["loss"]))
        history.accuracy.append(float(logs["accuracy"]))
        history.validation.append(scores)
        history.seconds += time.perf_counter() - self.began
        score = scores.get(trainer.chosen_by, scores["clean"])  # without ε there is no PGD-20
        if self.keep == "best" and score >= self.top and not lost:
            self.top, self.best, history.best_epoch = (
                score,
                trainer.network.get_weights(),
                epoch + 1,
            )
        if lost:
            self.no_answer(epoch, lost)
        elif trainer.eps and float(trainer.eps_now()) >= trainer.train_eps * (1 - 1e-6):
            self.alarm(epoch, scores)
        if self.callback is not None:
            self.callback(epoch, history)

    def alarm(self, epoch, scores):
        """Raise a Flag if the net has collapsed in this epoch; before ε has reached its end, nothing can be said."""
        gap, before = scores["fgsm"] - scores["pgd20"], self.last_gap
        self.last_gap = gap
        if gap <= ALARM_GAP and (before is None or gap - before <= ALARM_JUMP):
            return
        then = "" if before is None else f", {100 * before:.1f} points apart the epoch before"
        what = (
            f"the weights of epoch {self.history.best_epoch} are kept and training stops"
            if self.best
            else "nothing is done"
        )
        flag = Flag(
            "red", "catastrophic overfitting",
            f"epoch {epoch + 1}: FGSM accuracy {scores['fgsm']:.1%}, PGD-20 {scores['pgd20']:.1%}{then}",
            f"the network has learned to be right at the single step's points alone; {what}",
            "train with several steps (PGD), noise around the step (NFGSM), aligned gradients (GradAlign) or a smaller step",
            "Wong, Rice & Kolter 2020, arXiv 2001.03994, §5.4; Andriushchenko & Flammarion 2020, arXiv 2007.02617",
        )  # fmt: skip
        self.history.flags.append(flag)
        raise_flag(flag)
        if self.keep == "best":
            self.history.stopped_by, self.model.stop_training = "collapse", True

    def no_answer(self, epoch, lost):
        """Raise a Flag where validation images got NaN for an answer; no update mends weights that are NaN themselves."""
        broken = any(np.isnan(w).any() for w in self.model.network.get_weights())
        then = (
            f"the weights of epoch {self.history.best_epoch} are kept"
            if self.best
            else "no earlier epoch is kept"
        )
        counts = ", ".join(f"{name} {n}" for name, n in lost.items())
        flag = Flag(
            "red", "NaN on validation images",
            f"epoch {epoch + 1}: NaN from the network or the attack, of {len(self.validation[0])} images: {counts}"
            + "; the weights hold NaN" * broken,
            "such an image counts as wrong, which may be a fault of arithmetic; the epoch is never the best"
            + f"; no update mends NaN, so training stops, and {then}" * broken,
            "train at a lower learning rate; look for a division, square root, logarithm or overflow in the network",
            "this course, lesson 05",
        )  # fmt: skip
        self.history.flags.append(flag)
        raise_flag(flag)
        if broken:
            self.history.stopped_by, self.model.stop_training = "nan", True


def validate(trainer, x, y, lost=None):
    """Clean accuracy, FGSM and PGD-20 at the full ε if the defence has one, and its own scores: name → share of images.

    An image for which the network or the attack returned NaN counts as wrong; `lost`, a dict, is told how many, by name."""
    network, ball = trainer.network, trainer.ball
    lost = {} if lost is None else lost

    def right(name, points):
        whole, found = ~np.isnan(points).any(axis=(1, 2, 3)), np.full(len(points), -1)
        if whole.any():
            found[whole] = predicted_classes(predict_logits(network, points[whole]))
        if (found == -1).any():
            lost[name] = int((found == -1).sum())
        return float((found == y).mean())

    scores = {"clean": right("clean", x)}
    if trainer.eps:
        eps = {"eps": trainer.eps, "norm": ball}
        scores["fgsm"] = right("fgsm", fgsm(network, x, y, **eps))
        scores["pgd20"] = right("pgd20", pgd(network, x, y, steps=20, seed=trainer.seed, **eps))
    return scores | trainer.scores(x, y)


class Bar(keras.callbacks.Callback):
    """Progress with the time left and the last scores."""

    def __init__(self, total, watch):
        super().__init__()
        self.total, self.watch = total, watch

    def on_train_begin(self, logs=None):
        batch = self.model.updates_per_batch
        done = self.model.updates // batch
        name = type(self.model).__name__
        self.bar = tqdm(
            total=self.total, initial=done, desc=name, unit="batch", delay=5, leave=False, disable=quiet()
        )

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training and self.watch.history.stopped_by == "epochs":
            self.watch.history.stopped_by = "callback"
        scores = self.watch.history.validation[-1]
        self.bar.set_postfix_str(", ".join(f"{name} {value:.1%}" for name, value in scores.items()))

    def on_train_end(self, logs=None):
        self.bar.close()
