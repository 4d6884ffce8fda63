"""Lesson 02: answers that must get a hint, and right ones written in another way."""

BEST = """
def best_draw(model, x, y, eps, draws, seed):
    rng, best = np.random.default_rng(seed), x.copy()
    done = models.predict_logits(model, x).argmax(axis=1) != y
    most = np.full(len(x), -np.inf)
    for _ in range(draws):
        z = np.clip(x + eps * rng.choice([-1, 1], x.shape), 0, 1).astype("float32")
        logits = models.predict_logits(model, z)
        loss, wrong = losses.cross_entropy(logits, y).numpy(), logits.argmax(axis=1) != y
        better = ~done & (wrong | (loss > most))
        best[better], most[better] = z[better], loss[better]
        done |= wrong
    return best
"""

WRONG = {
    "02.1": {
        "MNIST's value": """
fashion = 4.3630
from_one = 5.3630
""",
        "label 0 forgotten": """
fashion = 4.40
from_one = 5.40
""",
        "mean of the labels": """
fashion = 4.50
from_one = 5.50
""",
        "one added": """
fashion = 4.42
from_one = 5.42
""",
    },
    "02.2": {
        "all the same": """
def strengths(d, length):
    return dict.fromkeys(["uniform", "signs", "gaussian"], length / np.sqrt(d))
""",
        "three upside down": """
def strengths(d, length):
    return {"uniform": length / np.sqrt(3 * d), "signs": length / np.sqrt(d), "gaussian": length / np.sqrt(d)}
""",
        "for MNIST only": """
def strengths(d, length):
    return {"uniform": length / 16.17, "signs": length / 28, "gaussian": length / 28}
""",
        "square, not root": """
def strengths(d, length):
    return {"uniform": 3 * length / d, "signs": length / d, "gaussian": length / d}
""",
        "variance of a uniform": """
def strengths(d, length):
    root = length / np.sqrt(d)
    return {"uniform": root * np.sqrt(12), "signs": root, "gaussian": root}
""",
    },
    "02.3": {
        "every replaced pixel": """
def changed_share(x, p):
    return p
""",
        "half of them": """
def changed_share(x, p):
    return p / 2
""",
        "only black": """
def changed_share(x, p):
    return p * (1 - np.mean(x == 0) / 2)
""",
        "black never changes": """
def changed_share(x, p):
    return p * np.mean((x > 0) & (x < 1))
""",
        "dark counts as black": """
def changed_share(x, p):
    return p * (1 - np.mean((x < 0.1) | (x > 0.9)) / 2)
""",
    },
    "02.4": {
        "the last draw": BEST.replace("~done & (wrong | (loss > most))", "~done"),
        "one draw for the whole batch": """
def best_draw(model, x, y, eps, draws, seed):
    rng, best, most = np.random.default_rng(seed), x.copy(), -np.inf
    right = models.predict_logits(model, x).argmax(axis=1) == y
    for _ in range(draws):
        z = np.clip(x + eps * rng.choice([-1, 1], x.shape), 0, 1).astype("float32")
        z[~right] = x[~right]
        loss = losses.cross_entropy(models.predict_logits(model, z), y).numpy().mean()
        if loss > most:
            best, most = z, loss
    return best
""",
        "draws added up": BEST.replace("z = np.clip(x + eps", "z = np.clip((z if _ else x) + eps"),
        "no clip": BEST.replace(
            "np.clip(x + eps * rng.choice([-1, 1], x.shape), 0, 1)",
            "(x + eps * rng.choice([-1, 1], x.shape))",
        ),
        "with a gradient": """
def best_draw(model, x, y, eps, draws, seed):
    return advlib.fgsm(model, x, y, eps=eps)
""",
        "misread images moved": BEST.replace(
            "models.predict_logits(model, x).argmax(axis=1) != y", "np.zeros(len(x), bool)"
        ),
        "uniform, not signs": BEST.replace("rng.choice([-1, 1], x.shape)", "rng.uniform(-1, 1, x.shape)"),
        "loss before misreading": BEST.replace("wrong | (loss > most)", "loss < most").replace(
            "-np.inf", "np.inf"
        ),
        "the seed forgotten": BEST.replace("default_rng(seed)", "default_rng()"),
    },
    "02.5": {
        "the usual one": """
def best_numbering(predicted, y, classes):
    return np.arange(classes)
""",
        "by number of errors": """
def best_numbering(predicted, y, classes):
    errors = np.bincount(y[predicted != y], minlength=classes)
    return np.argsort(np.argsort(errors))
""",
        "the order, not the numbers": """
def best_numbering(predicted, y, classes):
    numbers, value = np.arange(classes), np.inf
    rng = np.random.default_rng(0)
    for trial in [rng.permutation(classes) for _ in range(20_000)]:
        new = np.abs(np.argsort(trial)[predicted] - np.argsort(trial)[y]).mean()
        if new < value:
            numbers, value = trial, new
    return numbers
""",
        "one round of exchanges": """
def best_numbering(predicted, y, classes):
    numbers = np.arange(classes)
    for a in range(classes - 1):
        trial = numbers.copy()
        trial[[a, a + 1]] = numbers[[a + 1, a]]
        if np.abs(trial[predicted] - trial[y]).mean() < np.abs(numbers[predicted] - numbers[y]).mean():
            numbers = trial
    return numbers
""",
        "no numbering": """
def best_numbering(predicted, y, classes):
    return np.zeros(classes, int)
""",
        "the largest value": """
def best_numbering(predicted, y, classes):
    numbers, value = np.arange(classes), -np.inf
    rng = np.random.default_rng(0)
    for trial in [rng.permutation(classes) for _ in range(500)]:
        new = np.abs(trial[predicted] - trial[y]).mean()
        if new > value:
            numbers, value = trial, new
    return numbers
""",
    },
}

OTHERWISE = {
    "02.2": """
def strengths(d, length):
    kinds = {"uniform": lambda n: np.linspace(-1, 1, n), "signs": lambda n: np.ones(n)}
    square = {kind: np.mean(values(200_001) ** 2) for kind, values in kinds.items()} | {"gaussian": 1.0}
    return {kind: float(length / np.sqrt(d * mean)) for kind, mean in square.items()}
""",
    "02.3": """
def changed_share(x, p):
    stays = {0.0: 0.5, 1.0: 0.5}
    values, counts = np.unique(x, return_counts=True)
    return sum(p * (1 - stays.get(float(v), 0.0)) * k for v, k in zip(values, counts)) / x.size
""",
    "02.4": """
def best_draw(model, x, y, eps, draws, seed):
    out = []
    for i in range(len(x)):
        rng = np.random.default_rng([seed, i])
        label, points = y[i : i + 1], x[i : i + 1]
        if models.predict_logits(model, points).argmax() != label[0]:
            out.append(points[0])
            continue
        worst, value = None, -1.0
        for _ in range(draws):
            z = np.clip(points + np.float32(eps) * (2 * rng.integers(0, 2, points.shape) - 1), 0, 1).astype("float32")
            logits = models.predict_logits(model, z)
            if logits.argmax() != label[0]:
                worst = z
                break
            loss = float(losses.cross_entropy(logits, label)[0])
            if loss > value:
                worst, value = z, loss
        out.append(worst[0])
    return np.stack(out)
""",
    "02.5": """
def best_numbering(predicted, y, classes):
    counts = np.zeros((classes, classes))
    np.add.at(counts, (predicted, y), 1)

    def value(numbers):
        return (counts * np.abs(np.subtract.outer(numbers, numbers))).sum()

    best = None
    for seed in range(3):
        numbers, improved = np.random.default_rng(seed).permutation(classes), True
        while improved:
            improved = False
            for a in range(classes):
                for b in range(a):
                    trial = numbers.copy()
                    trial[a], trial[b] = numbers[b], numbers[a]
                    if value(trial) < value(numbers):
                        numbers, improved = trial, True
        if best is None or value(numbers) < value(best):
            best = numbers
    return list(best)
""",
}
