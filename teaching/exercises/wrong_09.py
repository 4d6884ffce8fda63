"""Lesson 09: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "09.1": {
        "all that round are stuck": """
rounded = "BCDEF"
stuck = "BCDEF"
by_margin = ""
""",
        "the margin saturates too": """
rounded = "BCDEF"
stuck = "EF"
by_margin = "EF"
""",
        "one threshold for both": """
rounded = "EF"
stuck = "EF"
by_margin = ""
""",
        "the scale forgotten": """
rounded = ""
stuck = ""
by_margin = ""
""",
        "numbers, not letters": """
rounded = [2, 3, 4, 5, 6]
stuck = [5, 6]
by_margin = []
""",
    },
    "09.2": {
        "stand-in forward too": """
def through(model, defence, surrogate):
    return lambda x: model(surrogate(x))
""",
        "no way back": """
def through(model, defence, surrogate):
    return lambda x: model(tf.stop_gradient(defence(x)))
""",
        "always the identity": """
def through(model, defence, surrogate):
    return lambda x: model(x + tf.stop_gradient(defence(x) - x))
""",
        "gradient at the stand-in": """
def through(model, defence, surrogate):
    def defended(x):
        smooth = model(surrogate(x))
        return smooth + tf.stop_gradient(model(defence(x)) - smooth)
    return defended
""",
        "the defence's gradient comes along": """
def through(model, defence, surrogate):
    def defended(x):
        smooth = surrogate(x)
        return model(defence(x) + smooth - tf.stop_gradient(smooth))
    return defended
""",
        "defends at once": """
def through(model, defence, surrogate):
    return model(defence(x))
""",
    },
    "09.3": {
        "mean of signs": """
def steady(model, x, y, eps, steps, draws):
    z = x.copy()
    for _ in range(steps):
        total = sum(np.sign(gradient(model, z, y)) for _ in range(draws))
        z = np.clip(z + 2.5 * eps / steps * np.sign(total), x - eps, x + eps)
        z = np.clip(z, 0, 1).astype("float32")
    return z
""",
        "always from x": """
def steady(model, x, y, eps, steps, draws):
    z = x.copy()
    for _ in range(steps):
        total = sum(gradient(model, x, y) for _ in range(draws))
        z = np.clip(z + 2.5 * eps / steps * np.sign(total), x - eps, x + eps)
        z = np.clip(z, 0, 1).astype("float32")
    return z
""",
        "one draw a step": """
def steady(model, x, y, eps, steps, draws):
    z = x.copy()
    for _ in range(steps):
        z = np.clip(z + 2.5 * eps / steps * np.sign(gradient(model, z, y)), x - eps, x + eps)
        z = np.clip(z, 0, 1).astype("float32")
    return z
""",
        "mean of finished attacks": """
def steady(model, x, y, eps, steps, draws):
    found = []
    for _ in range(draws):
        z = x.copy()
        for _ in range(steps):
            z = np.clip(z + 2.5 * eps / steps * np.sign(gradient(model, z, y)), x - eps, x + eps)
            z = np.clip(z, 0, 1).astype("float32")
        found.append(z)
    return np.mean(found, axis=0)
""",
        "no box": """
def steady(model, x, y, eps, steps, draws):
    z = x.copy()
    for _ in range(steps):
        total = sum(gradient(model, z, y) for _ in range(draws))
        z = np.clip(z + 2.5 * eps / steps * np.sign(total), x - eps, x + eps).astype("float32")
    return z
""",
        "no ball": """
def steady(model, x, y, eps, steps, draws):
    z = x.copy()
    for _ in range(steps):
        total = sum(gradient(model, z, y) for _ in range(draws))
        z = np.clip(z + 2.5 * eps / steps * np.sign(total), 0, 1).astype("float32")
    return z
""",
        "one gradient for all images": """
def steady(model, x, y, eps, steps, draws):
    z = x.copy()
    for _ in range(steps):
        total = sum(gradient(model, z, y) for _ in range(draws)).sum(axis=0)
        z = np.clip(np.clip(z + 2.5 * eps / steps * np.sign(total), x - eps, x + eps), 0, 1).astype("float32")
    return z
""",
        "downhill": """
def steady(model, x, y, eps, steps, draws):
    z = x.copy()
    for _ in range(steps):
        total = sum(gradient(model, z, y) for _ in range(draws))
        z = np.clip(np.clip(z - 2.5 * eps / steps * np.sign(total), x - eps, x + eps), 0, 1).astype("float32")
    return z
""",
        "asks too often": """
def steady(model, x, y, eps, steps, draws):
    z = x.copy()
    for _ in range(10 * steps):
        total = sum(gradient(model, z, y) for _ in range(draws))
        z = np.clip(np.clip(z + eps / steps * np.sign(total), x - eps, x + eps), 0, 1).astype("float32")
    return z
""",
    },
    "09.4": {
        "each wrong by itself": """
def agreed(z, other, y):
    return tf.minimum(losses.margin(z, y), losses.margin(other, y))
""",
        "sum of margins": """
def agreed(z, other, y):
    return losses.margin(z, y) + losses.margin(other, y)
""",
        "true class counts too": """
def agreed(z, other, y):
    def lead(z):
        return -tf.stack([losses.margin(z, tf.fill([len(z)], j)) for j in range(z.shape[1])], axis=1)

    return tf.reduce_max(tf.minimum(lead(z), lead(other)), axis=1)
""",
        "ahead of y only": """
def agreed(z, other, y):
    i = tf.one_hot(y, z.shape[1], on_value=True, off_value=False)
    ahead = [v - tf.gather(v, y, axis=1, batch_dims=1)[:, None] for v in (z, other)]
    return tf.reduce_max(tf.where(i, -np.inf, tf.minimum(*ahead)), axis=1)
""",
        "probabilities, not logits": """
def agreed(z, other, y):
    i = tf.one_hot(y, z.shape[1], on_value=True, off_value=False)
    leads = []
    for v in (z, other):
        p = tf.nn.softmax(v)
        leads.append(-tf.stack([losses.margin(p, tf.fill([len(p)], j)) for j in range(p.shape[1])], axis=1))
    return tf.reduce_max(tf.where(i, -np.inf, tf.minimum(*leads)), axis=1)
""",
        "the mean network": """
def agreed(z, other, y):
    return losses.margin((z + other) / 2, y)
""",
        "a count, no slope": """
def agreed(z, other, y):
    same = tf.argmax(z, axis=1) == tf.argmax(other, axis=1)
    return tf.where(same & (tf.argmax(z, axis=1) != y), 1.0, -1.0) + 0 * tf.reduce_sum(z + other, axis=1)
""",
    },
    "09.5": {
        "a gradient of zero": """
def hides(model, x, y, eps):
    return bool((np.abs(gradient(model, x, y)).max(axis=(1, 2, 3)) == 0).mean() > 0.5)
""",
        "a high number": """
def hides(model, x, y, eps):
    return bool((predicted(model, advlib.pgd(model, x, y, eps=eps, steps=20)) == y).mean() > 0.5)
""",
        "never": """
def hides(model, x, y, eps):
    return False
""",
        "always": """
def hides(model, x, y, eps):
    return True
""",
        "another loss alone": """
def hides(model, x, y, eps):
    left = [predicted(model, advlib.pgd(model, x, y, eps=eps, steps=20, loss=loss)) == y for loss in ("ce", "margin")]
    return bool((left[0] & ~left[1]).mean() > 0.1)
""",
        "counts initial errors": """
def hides(model, x, y, eps):
    by_gradient = (predicted(model, x) == y) & (predicted(model, advlib.pgd(model, x, y, eps=eps, steps=20)) != y)
    by_search = predicted(model, attacks.square(model, x, y, eps=eps, steps=300)) != y
    return bool((by_search & ~by_gradient).mean() > 0.1)
""",
        "asks without end": """
def hides(model, x, y, eps):
    rng = np.random.default_rng(0)
    for _ in range(30):
        z = np.repeat(x, 100, axis=0)
        z = np.clip(z + eps * rng.choice([-1, 1], z.shape), 0, 1).astype("float32")
        if (predicted(model, z) != np.repeat(y, 100)).all():
            return True
    return False
""",
    },
}

OTHERWISE = {
    "09.2": """
def through(model, defence, surrogate):
    @tf.custom_gradient
    def instead(sharp, smooth):
        return tf.identity(sharp), lambda upstream: (None, upstream)

    return lambda x: model(instead(tf.convert_to_tensor(defence(x)), surrogate(x)))
""",
    "09.3": """
def steady(model, x, y, eps, steps, draws):
    delta = np.zeros_like(x)
    for _ in range(steps):
        points = tf.constant(np.clip(x + delta, 0, 1))
        with tf.GradientTape() as tape:
            tape.watch(points)
            p = tf.add_n([tf.nn.softmax(model(points)) for _ in range(draws)]) / draws
            loss = -tf.reduce_sum(tf.math.log(tf.gather(p, y, axis=1, batch_dims=1) + 1e-9))
        delta = np.clip(delta + np.float32(2.5 * eps / steps) * np.sign(tape.gradient(loss, points)), -eps, eps)
        delta = delta.astype("float32")
    return np.clip(x + delta, 0, 1)
""",
    "09.4": """
def agreed(z, other, y):
    classes, value = z.shape[1], None
    for j in range(classes):
        others = [k for k in range(classes) if k != j]
        lead = tf.stack([v[:, j] - v[:, k] for v in (z, other) for k in others])
        lead = tf.where(tf.cast(y, tf.int32) == j, tf.constant(-1e9), tf.reduce_min(lead, axis=0))
        value = lead if value is None else tf.maximum(value, lead)
    return value
""",
    "09.5": """
def hides(model, x, y, eps):
    start = predicted(model, x) == y
    standing = start & (predicted(model, advlib.pgd(model, x, y, eps=eps, steps=40, restarts=2)) == y)
    found, rng = np.zeros(len(x), bool), np.random.default_rng(0)
    sign = rng.choice([-1, 1], (len(x), 1, *x.shape[2:])) * np.ones(x.shape)  # stripes
    best = np.full(len(x), -np.inf)
    for k in range(120):
        turned = sign.copy()
        edge = max(1, round(x.shape[1] * 0.4 * (1 - k / 120) ** 2))
        for i in range(len(x)):
            row, column = rng.integers(0, x.shape[1] - edge + 1, 2)
            turned[i, row : row + edge, column : column + edge] = rng.choice([-1, 1])
        z = np.clip(x + eps * turned, 0, 1).astype("float32")
        margin = losses.margin(models.predict_logits(model, z, batch_size=len(x)), y).numpy()
        better = margin >= best
        sign[better], best[better] = turned[better], margin[better]
    return (standing & (best > 0)).sum() > 0.1 * max(start.sum(), 1)
""",
}
