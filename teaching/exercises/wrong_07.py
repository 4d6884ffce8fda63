"""Lesson 07: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "07.1": {
        "of all images": """
def transferred(source, target, x, y, x_adv):
    counts = correct(source, x, y) & correct(target, x, y)
    return (counts & ~correct(target, x_adv, y)).sum(), len(x)
""",
        "target's errors booked": """
def transferred(source, target, x, y, x_adv):
    counts = correct(source, x, y)
    return (counts & ~correct(target, x_adv, y)).sum(), counts.sum()
""",
        "source's errors kept": """
def transferred(source, target, x, y, x_adv):
    counts = correct(target, x, y)
    return (counts & ~correct(target, x_adv, y)).sum(), counts.sum()
""",
        "tried on the source": """
def transferred(source, target, x, y, x_adv):
    counts = correct(source, x, y) & correct(target, x, y)
    return (counts & ~correct(source, x_adv, y)).sum(), counts.sum()
""",
        "a share, not counts": """
def transferred(source, target, x, y, x_adv):
    counts = correct(source, x, y) & correct(target, x, y)
    return (counts & ~correct(target, x_adv, y)).sum() / counts.sum()
""",
    },
    "07.2": {
        "half the pixels": """
pairs = 392
questions = 20 * 392
""",
        "one question a direction": """
pairs = 261
questions = 2610
""",
        "one step only": """
pairs = 261
questions = 522
""",
        "cosine for share": """
pairs = 784
questions = 15680
""",
    },
    "07.3": {
        "returns the middle": """
def bisect(ask, x, far, y, questions):
    low, high = np.zeros((len(x), 1, 1, 1)), np.ones((len(x), 1, 1, 1))
    for _ in range(questions):
        middle = (low + high) / 2
        wrong = (ask((x + middle * (far - x)).astype("float32")).numpy().argmax(axis=1) != y).reshape(low.shape)
        low, high = np.where(wrong, low, middle), np.where(wrong, middle, high)
    return x + (low + high) / 2 * (far - x)
""",
        "halves the wrong way": """
def bisect(ask, x, far, y, questions):
    low, high = np.zeros((len(x), 1, 1, 1)), np.ones((len(x), 1, 1, 1))
    for _ in range(questions):
        middle = (low + high) / 2
        wrong = (ask((x + middle * (far - x)).astype("float32")).numpy().argmax(axis=1) != y).reshape(low.shape)
        low, high = np.where(wrong, middle, low), np.where(wrong, high, middle)
    return x + high * (far - x)
""",
        "walks in equal steps": """
def bisect(ask, x, far, y, questions):
    t = np.ones((len(x), 1, 1, 1))
    for k in range(questions, 0, -1):
        trial = np.full_like(t, k / (questions + 1))
        wrong = (ask((x + trial * (far - x)).astype("float32")).numpy().argmax(axis=1) != y).reshape(t.shape)
        t = np.where(wrong & (t > trial), trial, t)
    return x + t * (far - x)
""",
        "asks twice a step": """
def bisect(ask, x, far, y, questions):
    low, high = np.zeros((len(x), 1, 1, 1)), np.ones((len(x), 1, 1, 1))
    for _ in range(questions):
        middle = (low + high) / 2
        wrong = (ask((x + middle * (far - x)).astype("float32")).numpy().argmax(axis=1) != y).reshape(low.shape)
        still = (ask((x + high * (far - x)).astype("float32")).numpy().argmax(axis=1) != y).reshape(low.shape)
        low, high = np.where(wrong, low, middle), np.where(wrong & still, middle, high)
    return x + high * (far - x)
""",
        "one half for all": """
def bisect(ask, x, far, y, questions):
    low, high = 0.0, 1.0
    for _ in range(questions):
        middle = (low + high) / 2
        wrong = (ask((x + middle * (far - x)).astype("float32")).numpy().argmax(axis=1) != y).all()
        low, high = (low, middle) if wrong else (middle, high)
    return x + high * (far - x)
""",
        "returns the start": """
def bisect(ask, x, far, y, questions):
    return far
""",
    },
    "07.4": {
        "fresh noise each time": """
def search(ask, x, y, eps, questions, rng):
    z, best = x.copy(), np.full(len(x), -np.inf)
    for _ in range(questions):
        proposal = np.clip(x + eps * rng.choice([-1, 1], x.shape), 0, 1).astype("float32")
        margin = losses.margin(ask(proposal), y).numpy()
        better = margin > best
        z[better], best[better] = proposal[better], margin[better]
    return z
""",
        "keeps every proposal": """
def search(ask, x, y, eps, questions, rng):
    sign = rng.choice([-1, 1], x.shape)
    for _ in range(questions):
        sign = np.where(rng.random(x.shape) < 0.05, -sign, sign)
        ask(np.clip(x + eps * sign, 0, 1).astype("float32"))
    return np.clip(x + eps * sign, 0, 1).astype("float32")
""",
        "follows a gradient": """
def search(ask, x, y, eps, questions, rng):
    z = x.copy()
    for _ in range(min(questions, 10)):
        z = tf.constant(z)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = tf.reduce_sum(losses.margin(ask(z), y))
        z = np.clip(np.clip(z + eps / 4 * np.sign(tape.gradient(loss, z)), x - eps, x + eps), 0, 1)
    return z
""",
        "leaves the ball": """
def search(ask, x, y, eps, questions, rng):
    z = x.copy()
    best = losses.margin(ask(z), y).numpy()
    for _ in range(questions - 1):
        proposal = np.clip(z + eps * rng.choice([-1, 0, 1], x.shape, p=[0.05, 0.9, 0.05]), 0, 1).astype("float32")
        margin = losses.margin(ask(proposal), y).numpy()
        better = margin > best
        z[better], best[better] = proposal[better], margin[better]
    return z
""",
        "leaves the box": """
def search(ask, x, y, eps, questions, rng):
    sign = rng.choice([-1, 1], x.shape)
    best = losses.margin(ask((x + eps * sign).astype("float32")), y).numpy()
    for _ in range(questions - 1):
        turned = np.where(rng.random(x.shape) < 0.05, -sign, sign)
        margin = losses.margin(ask((x + eps * turned).astype("float32")), y).numpy()
        better = margin > best
        sign[better], best[better] = turned[better], margin[better]
    return (x + eps * sign).astype("float32")
""",
        "one decision for all": """
def search(ask, x, y, eps, questions, rng):
    sign = rng.choice([-1, 1], x.shape)
    best = losses.margin(ask(np.clip(x + eps * sign, 0, 1).astype("float32")), y).numpy().mean()
    for _ in range(questions - 1):
        turned = np.where(rng.random(x.shape) < 0.05, -sign, sign)
        margin = losses.margin(ask(np.clip(x + eps * turned, 0, 1).astype("float32")), y).numpy().mean()
        if margin > best:
            sign, best = turned, margin
    return np.clip(x + eps * sign, 0, 1).astype("float32")
""",
        "forgets to count": """
def search(ask, x, y, eps, questions, rng):
    sign = rng.choice([-1, 1], x.shape)
    for _ in range(questions):
        turned = np.where(rng.random(x.shape) < 0.05, -sign, sign)
        before, after = (losses.margin(ask(np.clip(x + eps * s, 0, 1).astype("float32")), y).numpy() for s in (sign, turned))
        sign[after > before] = turned[after > before]
    return np.clip(x + eps * sign, 0, 1).astype("float32")
""",
    },
    "07.5": {
        "images for questions": """
half = 30
left = 30
""",
        "read at the end": """
half = 300
left = 0
""",
        "fallen, not left": """
half = float(np.median(asked))
left = int((asked <= 100).sum())
""",
        "a share": """
half = float(np.median(asked))
left = (asked > 100).mean()
""",
    },
}

OTHERWISE = {
    "07.1": """
def transferred(source, target, x, y, x_adv):
    broken = of = 0
    said = [models.predict_logits(m, z).argmax(axis=1) for m, z in ((source, x), (target, x), (target, x_adv))]
    for label, by_source, by_target, later in zip(y, *said):
        if by_source == label == by_target:
            of += 1
            broken += later != label
    return broken, of
""",
    "07.3": """
def bisect(ask, x, far, y, questions):
    out = []
    for image, end, label in zip(x, far, y):
        near, step = end, 0.5
        t = 1.0
        for _ in range(questions):
            trial = (image + (t - step) * (end - image)).astype("float32")
            if np.argmax(ask(trial[None])[0]) != label:
                near, t = trial, t - step
            step /= 2
        out.append(near)
    return np.stack(out)
""",
    "07.4": """
def search(ask, x, y, eps, questions, rng):
    side = x.shape[1]
    z = np.clip(x + eps * rng.choice([-1, 1], (len(x), 1, x.shape[2], 1)), 0, 1).astype("float32")
    best = losses.margin(ask(z), y).numpy()
    for k in range(questions - 1):
        edge = max(1, round(side * (0.4 * (1 - k / questions) ** 3)))
        proposal = z.copy()
        for i in range(len(x)):
            row, column = rng.integers(0, side + 1 - edge, 2)
            window = np.s_[i, row : row + edge, column : column + edge]
            proposal[window] = np.clip(x[window] + eps * rng.choice([-1, 1]), 0, 1)
        margin = losses.margin(ask(proposal), y).numpy()
        z = np.where((margin > best)[:, None, None, None], proposal, z)
        best = np.maximum(best, margin)
    return z
""",
}
