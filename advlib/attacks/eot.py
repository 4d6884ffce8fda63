"""Expectation over transformation (Athalye et al. 2018): attack the mean of a random model. Lesson 09."""

from advlib._checks import check_number
from advlib._tensorflow import tf
from advlib.attacks._loop import Oracle
from advlib.attacks.black_box import BlackBox


def eot(model, samples=20):
    """logits(x) = log( 1/n · Σᵢ softmax(model(x)) ): the log of the mean probabilities over n fresh runs on the same images.

    model: callable, images → logits, with randomness of its own. samples: n; the literature takes 10 to 30. Returns a
    model, which every attack takes: each of its steps follows n new draws, whose gradient varies by 1/n of one draw's
    variance. It costs n runs.

    The loss attacked is that of the mean probabilities, −log E[p_y] for cross-entropy: draws count by their p_y, so those
    still right lead. The alternative, to average the gradients of the loss, climbs E[−log p_y], which is never smaller
    (Jensen) and in which a draw already lost counts as much; both are called EOT, and they agree for n = 1. For a model
    without randomness the result is the model, but for a constant in each row of logits that no loss or prediction sees.

    A keras.Model or tf.function gives a tf.function, which attacks compile; draws are then fresh in every call if
    TensorFlow or Keras makes them (a NumPy draw inside a tf.function is frozen when it is traced). Any other callable
    gives a plain function, run eagerly. Keep the result for several attacks: what they compile goes when it goes. Judge
    an attack by other draws than its own, and many. Raises TypeError or ValueError for bad input.

    Source: Athalye, Engstrom, Ilyas, Kwok 2018, arXiv 1707.07397, §2.1. Lesson 09.

        >>> x_adv = pgd(eot(net, samples=20), x[:100], y[:100], eps=0.1)
    """
    check_number(samples, "samples", low=1, integer=True, example=20)
    run, compiles = inference(model)

    def mean(x):
        # A loop, not n copies of the model: copies of a random operation with a seed would all draw the same numbers.
        runs = tf.map_fn(
            lambda _: run(x), tf.range(samples), fn_output_signature=tf.float32, parallel_iterations=1
        )
        log_mean = tf.reduce_logsumexp(tf.nn.log_softmax(runs), axis=0) - tf.math.log(float(samples))
        # Probabilities go through as they are, so that the check for them, in every attack, still finds them.
        total = tf.reduce_sum(runs, axis=2)
        probabilities = tf.reduce_all(runs >= -1e-5) & tf.reduce_all(tf.abs(total - 1) < 1e-3)
        return tf.where(probabilities, tf.reduce_mean(runs, axis=0), log_mean)

    return tf.function(mean) if compiles else mean


def inference(model):
    """`model` as a function of tensors, in inference mode, and whether attacks compile it."""
    oracle = Oracle(model)
    return (model, False) if isinstance(model, BlackBox) else (oracle._call(), oracle.compiles)
