"""Lesson 03: answers that must get a hint, and right ones written in another way."""

STEEPEST = """
def steepest(g, eps, norm):
    if norm == "linf":
        return eps * np.sign(g)
    if norm == "l2":
        return eps * g / np.maximum(np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-30)
    flat, delta = g.reshape(len(g), -1), np.zeros((len(g), g[0].size))
    rows, best = np.arange(len(g)), np.abs(flat).argmax(axis=1)
    delta[rows, best] = eps * np.sign(flat[rows, best])
    return delta.reshape(g.shape)
"""

FGSM = """
def my_fgsm(model, x, y, eps, y_target=None):
    if y_target is None:
        step = np.sign(input_gradient(model, x, y))
    else:
        step = -np.sign(input_gradient(model, x, y_target))
    right = still_right(model, x, y)[:, None, None, None]
    return np.where(right, np.clip(x + np.float32(eps) * step, 0, 1), x)
"""

WRONG = {
    "03.1": {
        "one length for the batch": STEEPEST.replace(
            "(g**2).sum(axis=(1, 2, 3), keepdims=True)", "(g**2).sum()"
        ),
        "sign in every norm": """
def steepest(g, eps, norm):
    step = np.sign(g)
    size = {"linf": 1, "l2": np.sqrt(g[0].size), "l1": g[0].size}[norm]
    return eps * step / size
""",
        "the gradient, scaled to size": """
def steepest(g, eps, norm):
    size = np.maximum(np.asarray(norms.get(norm).size(g)), 1e-30)
    return eps * g / size[:, None, None, None]
""",
        "largest, not largest in size": STEEPEST.replace("np.abs(flat).argmax", "flat.argmax"),
        "ties spend too much": STEEPEST.replace(
            "delta[rows, best] = eps * np.sign(flat[rows, best])",
            "delta = eps * np.sign(flat) * (np.abs(flat) == np.abs(flat).max(axis=1, keepdims=True)) * (flat != 0)",
        ),
        "divides by zero": STEEPEST.replace(
            "np.maximum(np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-30)",
            "np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True))",
        ),
        "downhill": STEEPEST.replace("eps * ", "-eps * "),
        "square root forgotten": STEEPEST.replace("np.sqrt((g**2)", "((g**2)"),
    },
    "03.2": {
        "no clip": FGSM.replace("np.clip(x + np.float32(eps) * step, 0, 1)", "x + np.float32(eps) * step"),
        "misread images moved": FGSM.replace(
            "np.where(right, np.clip(x + np.float32(eps) * step, 0, 1), x)",
            "np.clip(x + np.float32(eps) * step, 0, 1)",
        ),
        "away from the target": FGSM.replace("-np.sign(", "np.sign("),
        "target ignored": FGSM.replace(
            "-np.sign(input_gradient(model, x, y_target))", "np.sign(input_gradient(model, x, y))"
        ),
        "towards the true class": FGSM.replace("step = np.sign(", "step = -np.sign("),
        "down for y, not the target": FGSM.replace("model, x, y_target)", "model, x, y)"),
        "the gradient, not its sign": FGSM.replace(
            "np.sign(input_gradient(model, x, y))",
            "input_gradient(model, x, y) / np.abs(input_gradient(model, x, y)).max()",
        ),
        "returns float64": FGSM.replace("np.float32(eps) * step", "np.float64(eps) * step"),
    },
    "03.3": {
        "the full step": """
def less_sure(model, x, eps):
    said = predict(model, x).argmax(axis=1)
    return np.clip(x + np.float32(eps) * np.sign(input_gradient(model, x, said)), 0, 1)
""",
        "only where it holds": """
def less_sure(model, x, eps):
    said = predict(model, x).argmax(axis=1)
    z = np.clip(x + np.float32(eps) * np.sign(input_gradient(model, x, said)), 0, 1)
    return np.where(still_right(model, z, said)[:, None, None, None], z, x)
""",
        "one length for all": """
def less_sure(model, x, eps):
    said = predict(model, x).argmax(axis=1)
    step = np.sign(input_gradient(model, x, said))
    for length in np.linspace(eps, 0, 41):
        z = np.clip(x + np.float32(length) * step, 0, 1)
        if still_right(model, z, said).all():
            return z
""",
        "noise": """
def less_sure(model, x, eps):
    said = predict(model, x).argmax(axis=1)
    z = noise.signs(x, eps)
    return np.where(still_right(model, z, said)[:, None, None, None], z, x)
""",
        "surer, not less sure": """
def less_sure(model, x, eps):
    said = predict(model, x).argmax(axis=1)
    return np.clip(x - np.float32(eps) * np.sign(input_gradient(model, x, said)), 0, 1)
""",
        "the box forgotten": """
def less_sure(model, x, eps):
    said = predict(model, x).argmax(axis=1)
    return x + np.float32(eps / 4) * np.sign(input_gradient(model, x, said))
""",
        "nothing": """
def less_sure(model, x, eps):
    return x.copy()
""",
    },
    "03.4": {
        "sum of the weights": """
gain = 0.2
spread = 0.2345
breaks = 0.3
""",
        "L2 for L∞": """
gain = 0.2345
spread = 0.2345
breaks = 0.512
""",
        "variance": """
gain = 0.4
spread = 0.055
breaks = 0.3
""",
        "random as good as the best": """
gain = 0.4
spread = 0.4
breaks = 0.3
""",
        "distance in L2": """
gain = 0.4
spread = 0.2345
breaks = 0.512
""",
    },
    "03.5": {
        "the cross-entropy as it was": """
def exact_loss(z, y):
    return losses.cross_entropy(z, y)
""",
        "as on paper": """
def exact_loss(z, y):
    lead = z - tf.gather(z, y, axis=1, batch_dims=1)[:, None]
    return tf.math.log(1 + tf.reduce_sum(tf.exp(lead), axis=1) - 1)
""",
        "float64 will do": """
def exact_loss(z, y):
    return tf.cast(losses.cross_entropy(tf.cast(z, tf.float64), y), tf.float32)
""",
        "true class in the sum": """
def exact_loss(z, y):
    return tf.nn.softplus(tf.reduce_logsumexp(z, axis=1) - tf.gather(z, y, axis=1, batch_dims=1))
""",
        "the margin instead": """
def exact_loss(z, y):
    return tf.nn.softplus(losses.margin(z, y))
""",
        "summed over images": """
def exact_loss(z, y):
    is_true = tf.one_hot(y, z.shape[1], on_value=True, off_value=False)
    others = tf.reduce_logsumexp(tf.where(is_true, -np.inf, z), axis=1)
    return tf.reduce_sum(tf.nn.softplus(others - tf.gather(z, y, axis=1, batch_dims=1)))
""",
        "in NumPy": """
def exact_loss(z, y):
    z, y = np.array(z), np.array(y)
    true = z[np.arange(len(z)), y]
    z[np.arange(len(z)), y] = -np.inf
    return np.logaddexp(0, np.logaddexp.reduce(z, axis=1) - true)
""",
        "log1p alone": """
def exact_loss(z, y):
    is_true = tf.one_hot(y, z.shape[1], on_value=True, off_value=False)
    lead = tf.where(is_true, -np.inf, z) - tf.gather(z, y, axis=1, batch_dims=1)[:, None]
    return tf.math.log1p(tf.reduce_sum(tf.exp(lead), axis=1))
""",
    },
}

OTHERWISE = {
    "03.1": """
def steepest(g, eps, norm):
    steps = []
    for one in g:
        flat = one.ravel()
        if norm == "linf":
            step = np.where(flat > 0, 1.0, -1.0)
        elif norm == "l2":
            length = np.linalg.norm(flat)
            step = flat / length if length else flat
        else:
            best = np.abs(flat) == np.abs(flat).max()
            step = best * np.sign(flat) / best.sum()
        steps.append(eps * step.reshape(one.shape))
    return np.stack(steps)
""",
    "03.2": """
def my_fgsm(model, x, y, eps, y_target=None):
    z = tf.Variable(x)
    with tf.GradientTape() as tape:
        logits = model(z, training=False)
        if y_target is None:
            gain = tf.reduce_sum(losses.cross_entropy(logits, y))
        else:
            gain = -tf.reduce_sum(losses.cross_entropy(logits, y_target))
    out = np.minimum(1, np.maximum(0, x + np.float32(eps) * np.sign(tape.gradient(gain, z).numpy())))
    for i in np.flatnonzero(predict(model, x).argmax(axis=1) != y):
        out[i] = x[i]
    return out
""",
    "03.3": """
def less_sure(model, x, eps):
    before = predict(model, x)
    said, best = before.argmax(axis=1), x.copy()
    lowest = softmax(before.astype("float64"), axis=1).max(axis=1)
    step = np.sign(input_gradient(model, x, said, losses.margin))
    for length in np.linspace(0, eps, 101):
        z = np.clip(x + np.float32(length) * step, 0, 1)
        logits = predict(model, z)
        sure = softmax(logits.astype("float64"), axis=1).max(axis=1)
        better = (logits.argmax(axis=1) == said) & (sure < lowest)
        best[better], lowest[better] = z[better], sure[better]
    return best
""",
    "03.5": """
def exact_loss(z, y):
    lead = tf.gather(z, y, axis=1, batch_dims=1)[:, None] - z
    true = tf.cast(tf.one_hot(y, tf.shape(z)[1]), bool)
    others = tf.reshape(tf.boolean_mask(lead, ~true), (tf.shape(z)[0], -1))
    return -tf.math.log_sigmoid(-tf.reduce_logsumexp(-others, axis=1))
""",
}
