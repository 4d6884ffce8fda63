"""Lesson 04: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "04.1": {
        "only the ball": """
def project(z, x, eps):
    return np.clip(z, x - eps, x + eps)
""",
        "only the box": """
def project(z, x, eps):
    return np.clip(z, 0, 1)
""",
        "always to the corner": """
def project(z, x, eps):
    return np.clip(x + eps * np.sign(z - x), 0, 1)
""",
        "shrinks the whole difference": """
def project(z, x, eps):
    delta = z - x
    largest = np.abs(delta).max(axis=(1, 2, 3), keepdims=True)
    return np.clip(x + delta * np.minimum(1, eps / np.maximum(largest, 1e-12)), 0, 1)
""",
        "changes its input": """
def project(z, x, eps):
    np.clip(z, x - eps, x + eps, out=z)
    return np.clip(z, 0, 1, out=z)
""",
    },
    "04.2": {
        "the whole budget": """
moved = 0.2
crossing = 80
""",
        "from the middle": """
moved = 0.125
crossing = 40
""",
        "one step too many": """
moved = 0.125
crossing = 81
""",
        "in steps, not pixels": """
moved = 25
crossing = 80
""",
    },
    "04.3": {
        "mended after the last step alone": """
def mended_pgd(model, x, y, eps, steps=40):
    z = x.copy()
    for _ in range(steps):
        g = gradient(model, z, y)
        delta = z - x + eps / 4 * g / np.maximum(np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-12)
        size = np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True))
        z = x + delta * np.minimum(1, eps / np.maximum(size, 1e-12))
    return np.clip(z, 0, 1)
""",
        "ball around the last point": """
def mended_pgd(model, x, y, eps, steps=40):
    z = x.copy()
    for _ in range(steps):
        g = gradient(model, z, y)
        delta = eps / 4 * g / np.maximum(np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-12)
        size = np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True))
        z = np.clip(z + delta * np.minimum(1, eps / np.maximum(size, 1e-12)), 0, 1)
    return z
""",
        "no box": """
def mended_pgd(model, x, y, eps, steps=40):
    z = x.copy()
    for _ in range(steps):
        g = gradient(model, z, y)
        delta = z - x + eps / 4 * g / np.maximum(np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-12)
        size = np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True))
        z = x + delta * np.minimum(1, eps / np.maximum(size, 1e-12))
    return z
""",
        "norm of the batch": """
def mended_pgd(model, x, y, eps, steps=40):
    z = x.copy()
    for _ in range(steps):
        g = gradient(model, z, y)
        delta = z - x + eps / 4 * g / np.maximum(np.sqrt((g**2).sum()), 1e-12)
        size = np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True))
        z = np.clip(x + delta * np.minimum(1, eps / np.maximum(size, 1e-12)), 0, 1)
    return z
""",
        "down the loss": """
def mended_pgd(model, x, y, eps, steps=40):
    z = x.copy()
    for _ in range(steps):
        g = -gradient(model, z, y)
        delta = z - x + eps / 4 * g / np.maximum(np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-12)
        size = np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True))
        z = np.clip(x + delta * np.minimum(1, eps / np.maximum(size, 1e-12)), 0, 1)
    return z
""",
        "NaN without gradient": """
def mended_pgd(model, x, y, eps, steps=40):
    z = x.copy()
    for _ in range(steps):
        g = gradient(model, z, y)
        delta = z - x + eps / 4 * g / np.sqrt((g**2).sum(axis=(1, 2, 3), keepdims=True))
        size = np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True))
        z = np.clip(x + delta * np.minimum(1, eps / np.maximum(size, 1e-12)), 0, 1)
    return z
""",
    },
    "04.4": {
        "the last point": """
def best_point(path, loss, broken):
    return path[-1]
""",
        "loss alone": """
def best_point(path, loss, broken):
    return path[loss.argmax(axis=0), np.arange(path.shape[1])]
""",
        "the first broken": """
def best_point(path, loss, broken):
    at = np.where(broken.any(axis=0), broken.argmax(axis=0), loss.argmax(axis=0))
    return path[at, np.arange(path.shape[1])]
""",
        "loss times broken": """
def best_point(path, loss, broken):
    return path[(loss * broken).argmax(axis=0), np.arange(path.shape[1])]
""",
        "one step for all": """
def best_point(path, loss, broken):
    return path[np.where(broken, loss + 1e6, loss).mean(axis=1).argmax()]
""",
    },
    "04.5": {
        "one target only": """
def reached(model, x, y, eps, classes):
    hit = np.zeros((len(x), classes), bool)
    target = (y + 1) % classes
    aimed = advlib.pgd(model, x, y, eps=eps, y_target=target)
    now = models.predict_logits(model, aimed).argmax(axis=1)
    hit[np.arange(len(x)), target] = correct(model, x, y) & (now == target)
    return hit
""",
        "any wrong class": """
def reached(model, x, y, eps, classes):
    hit = np.zeros((len(x), classes), bool)
    for shift in range(1, classes):
        target = (y + shift) % classes
        aimed = advlib.pgd(model, x, y, eps=eps)
        hit[np.arange(len(x)), target] = correct(model, x, y) & ~correct(model, aimed, y)
    return hit
""",
        "wrong images counted": """
def reached(model, x, y, eps, classes):
    hit = np.zeros((len(x), classes), bool)
    for shift in range(1, classes):
        target = (y + shift) % classes
        aimed = advlib.pgd(model, x, y, eps=eps, y_target=target)
        hit[np.arange(len(x)), target] = models.predict_logits(model, aimed).argmax(axis=1) == target
    return hit
""",
        "no target at all": """
def reached(model, x, y, eps, classes):
    now = models.predict_logits(model, advlib.pgd(model, x, y, eps=eps)).argmax(axis=1)
    return (now[:, None] == np.arange(classes)) & correct(model, x, y)[:, None] & (now != y)[:, None]
""",
        "counts, not a table": """
def reached(model, x, y, eps, classes):
    return int((correct(model, x, y) & ~correct(model, advlib.pgd(model, x, y, eps=eps), y)).sum())
""",
    },
}

OTHERWISE = {
    "04.1": """
def project(z, x, eps):
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    return np.where(z < low, low, np.where(z > high, high, z))
""",
    "04.3": """
def mended_pgd(model, x, y, eps, steps=40):
    ball = norms.get("l2")
    z = x
    for _ in range(steps):
        z = tf.constant(z)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = tf.reduce_sum(losses.cross_entropy(model(z, training=False), y))
        z = ball.project(z + eps / 4 * ball.steepest(tape.gradient(loss, z), z), x, eps).numpy()
    return z
""",
    "04.4": """
def best_point(path, loss, broken):
    order = np.lexsort((loss, broken), axis=0)
    return np.take_along_axis(path, order[-1][None, :, None, None, None], axis=0)[0]
""",
    "04.5": """
def reached(model, x, y, eps, classes):
    columns, right = [], models.predict_logits(model, x).argmax(axis=1) == y
    for k in range(classes):
        here, column = right & (y != k), np.zeros(len(x), bool)
        if here.any():
            aimed = advlib.pgd(model, x[here], y[here], eps=eps, y_target=np.full(here.sum(), k), seed=3)
            column[here] = models.predict_logits(model, aimed).argmax(axis=1) == k
        columns.append(column)
    return np.stack(columns, axis=1)
""",
}
