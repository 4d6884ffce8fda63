"""Lesson 10: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "10.1": {
        "one weak feature alone": """
weak = [stats.norm.cdf(0.25), stats.norm.cdf(0), stats.norm.cdf(-0.25)]
strong = [0.9, 0.9, 0]
most = 0.36
""",
        "the attack does nothing": """
weak = [stats.norm.cdf(2), stats.norm.cdf(2), stats.norm.cdf(2)]
strong = [0.9, 0.9, 0.9]
most = 0.96
""",
        "strong falls at once": """
weak = [stats.norm.cdf(2), 0.5, stats.norm.cdf(-2)]
strong = [0.9, 0.1, 0]
most = 0.36
""",
        "the others turned round": """
weak = [stats.norm.cdf(2), 0.5, stats.norm.cdf(-2)]
strong = [0.9, 0.9, 0.1]
most = 0.36
""",
        "errors without the factor": """
weak = [stats.norm.cdf(2), 0.5, stats.norm.cdf(-2)]
strong = [0.9, 0.9, 0]
most = 0.04
""",
        "in per cent": """
weak = [97.7, 50, 2.3]
strong = [90, 90, 0]
most = 36
""",
    },
    "10.2": {
        "at the images": """
def worst_gradient(w, x, y, eps, norm):
    pull = expit(-y * (x @ w))
    return -(pull * y) @ x / len(y)
""",
        "one side for all": """
def worst_gradient(w, x, y, eps, norm):
    z = x - eps * (np.sign(w) if norm == "linf" else w / np.linalg.norm(w))
    pull = expit(-y * (z @ w))
    return -(pull * y) @ z / len(y)
""",
        "sum, not mean": """
def worst_gradient(w, x, y, eps, norm):
    z = x - eps * y[:, None] * (np.sign(w) if norm == "linf" else w / np.linalg.norm(w))
    pull = expit(-y * (z @ w))
    return -(pull * y) @ z
""",
        "the sign in every norm": """
def worst_gradient(w, x, y, eps, norm):
    z = x - eps * y[:, None] * np.sign(w)
    pull = expit(-y * (z @ w))
    return -(pull * y) @ z / len(y)
""",
        "the direction of the update": """
def worst_gradient(w, x, y, eps, norm):
    z = x - eps * y[:, None] * (np.sign(w) if norm == "linf" else w / np.linalg.norm(w))
    pull = expit(-y * (z @ w))
    return (pull * y) @ z / len(y)
""",
        "overflows": """
def worst_gradient(w, x, y, eps, norm):
    z = x - eps * y[:, None] * (np.sign(w) if norm == "linf" else w / np.linalg.norm(w))
    margin = y * (z @ w)
    pull = np.exp(-margin) / (1 + np.exp(-margin))
    return -(pull * y) @ z / len(y)
""",
        "pull of the image": """
def worst_gradient(w, x, y, eps, norm):
    z = x - eps * y[:, None] * (np.sign(w) if norm == "linf" else w / np.linalg.norm(w))
    pull = expit(-y * (x @ w))
    return -(pull * y) @ z / len(y)
""",
    },
    "10.3": {
        "the other way round": """
def trades_loss(z, z_adv, y, beta):
    log_p, log_q = tf.nn.log_softmax(z), tf.nn.log_softmax(z_adv)
    return losses.cross_entropy(z, y) + beta * tf.reduce_sum(tf.exp(log_q) * (log_q - log_p), axis=1)
""",
        "label at the attacked": """
def trades_loss(z, z_adv, y, beta):
    log_p, log_q = tf.nn.log_softmax(z), tf.nn.log_softmax(z_adv)
    return losses.cross_entropy(z_adv, y) + beta * tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=1)
""",
        "one answer held still": """
def trades_loss(z, z_adv, y, beta):
    return losses.cross_entropy(z, y) + beta * losses.kl(z_adv, z)
""",
        "logarithm of a softmax": """
def trades_loss(z, z_adv, y, beta):
    p, q = tf.nn.softmax(z), tf.nn.softmax(z_adv)
    return losses.cross_entropy(z, y) + beta * tf.reduce_sum(p * tf.math.log(p / q), axis=1)
""",
        "mean over the batch": """
def trades_loss(z, z_adv, y, beta):
    log_p, log_q = tf.nn.log_softmax(z), tf.nn.log_softmax(z_adv)
    return tf.reduce_mean(losses.cross_entropy(z, y) + beta * tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=1))
""",
        "a difference of losses": """
def trades_loss(z, z_adv, y, beta):
    clean = losses.cross_entropy(z, y)
    return clean + beta * (losses.cross_entropy(z_adv, y) - clean)
""",
        "in NumPy": """
def trades_loss(z, z_adv, y, beta):
    p, q = (tf.nn.softmax(v).numpy() for v in (z, z_adv))
    return losses.cross_entropy(z, y) + beta * (p * np.log(p / q)).sum(axis=1)
""",
    },
    "10.4": {
        "the same again": """
def leak(model, x, labels, eps):
    return faulty_leak(model, x, labels, eps)
""",
        "towards the label": """
def leak(model, x, labels, eps):
    points = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(points)
        loss = tf.reduce_sum(losses.cross_entropy(model(points), labels))
    stepped = np.clip(x - eps * np.sign(tape.gradient(loss, points)), 0, 1).astype("float32")
    return (predicted(model, stepped) == labels).mean()
""",
        "without the box": """
def leak(model, x, labels, eps):
    points = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(points)
        loss = tf.reduce_sum(losses.cross_entropy(model(points), labels))
    stepped = (x + eps * np.sign(tape.gradient(loss, points))).astype("float32")
    return (model(stepped).numpy().argmax(axis=1) == labels).mean()
""",
        "with the network's own answer": """
def leak(model, x, labels, eps):
    points = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(points)
        loss = tf.reduce_sum(losses.cross_entropy(model(points), predicted(model, x)))
    stepped = np.clip(x + eps * np.sign(tape.gradient(loss, points)), 0, 1).astype("float32")
    return (predicted(model, stepped) == labels).mean()
""",
        "every change counts": """
def leak(model, x, labels, eps):
    points = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(points)
        loss = tf.reduce_sum(losses.cross_entropy(model(points), labels))
    stepped = np.clip(x + eps * np.sign(tape.gradient(loss, points)), 0, 1).astype("float32")
    return (predicted(model, stepped) != predicted(model, x)).mean()
""",
        "a targeted step": """
def leak(model, x, labels, eps):
    own = predicted(model, x)
    target = np.where(own == labels, (own + 1) % 4, labels)
    return (predicted(model, advlib.fgsm(model, x, own, eps=eps, y_target=target)) == labels).mean()
""",
    },
    "10.5": {
        "only the highest": """
front = "E"
against = 5
""",
        "all that are robust": """
front = "AEF"
against = 5
""",
        "all networks": """
front = "ABCDEF"
against = 5
""",
        "every pair": """
front = "CE"
against = 15
""",
        "counts the equal ones": """
front = "CE"
against = 8
""",
        "a letter that is none": """
front = "XY"
against = 5
""",
    },
}

OTHERWISE = {
    "10.2": """
def worst_gradient(w, x, y, eps, norm):
    size, slope = (np.abs(w).sum(), np.sign(w)) if norm == "linf" else (np.sqrt(w @ w), w / np.sqrt(w @ w))
    total = np.zeros_like(w)
    for one, side in zip(x, y):
        margin = side * (w @ one) - eps * size
        pull = np.exp(-np.logaddexp(0, margin))
        total += pull * (eps * slope - side * one)
    return total / len(x)
""",
    "10.3": """
def trades_loss(z, z_adv, y, beta):
    p = tf.nn.softmax(z)
    across = tf.nn.softmax_cross_entropy_with_logits(labels=p, logits=z_adv)
    own = tf.nn.softmax_cross_entropy_with_logits(labels=p, logits=z)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(y, z) + beta * (across - own)
""",
    "10.4": """
def leak(model, x, labels, eps):
    hits = 0
    for image, label in zip(x, labels):
        points = tf.Variable(image[None])
        with tf.GradientTape() as tape:
            z = model(points)
            loss = tf.reduce_logsumexp(z) - z[0, int(label)]
        stepped = tf.clip_by_value(points + eps * tf.sign(tape.gradient(loss, points)), 0.0, 1.0)
        hits += int(np.argmax(model(stepped)[0]) == label)
    return hits / len(x)
""",
}
