"""Lesson 08: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "08.1": {
        "below zero images": """
def ends(clean, left):
    return clean - sum(clean - k for k in left), min([clean, *left])
""",
        "the weakest attack": """
def ends(clean, left):
    return max(0, clean - sum(clean - k for k in left)), max([clean, *left])
""",
        "attacks as independent": """
def ends(clean, left):
    expected = clean * np.prod([k / clean for k in left])
    return expected, min([clean, *left])
""",
        "minimum for both": """
def ends(clean, left):
    return min([clean, *left]), min([clean, *left])
""",
        "no attack forgotten": """
def ends(clean, left):
    return max(0, clean - sum(clean - k for k in left)), min(left)
""",
        "two attacks only": """
def ends(clean, left):
    broken = sorted((clean - k for k in left), reverse=True)
    return max(0, clean - sum(broken[:2])), min([clean, *left])
""",
    },
    "08.2": {
        "divided, not multiplied": """
pixels = 0.1 / sigma
needed = 0.1 * sigma
errs = "too low"
""",
        "no unit at all": """
pixels = 0.1
needed = 0.1
errs = "cannot tell"
""",
        "the mean moved": """
pixels = 0.1 * sigma + 0.286
needed = 0.1 / sigma
errs = "too high"
""",
        "wrong way round": """
pixels = 0.1 * sigma
needed = 0.1 / sigma
errs = "too low"
""",
        "leaves it open": """
pixels = 0.1 * sigma
needed = 0.1 / sigma
errs = "cannot tell"
""",
    },
    "08.3": {
        "sure against unsure": """
def can_fail(measure, y):
    good = 20 * np.eye(10)[y]
    return bool(abs(measure(good, y) - measure(np.zeros((len(y), 10)), y)) > 1e-6)
""",
        "other labels instead": """
def can_fail(measure, y):
    good = 20 * np.eye(10)[y]
    return bool(abs(measure(good, y) - measure(good, (y + 1) % 10)) > 1e-6)
""",
        "not sure enough": """
def can_fail(measure, y):
    good, bad = np.eye(10)[y], np.eye(10)[(y + 1) % 10]
    return bool(abs(measure(good, y) - measure(bad, y)) > 1e-6)
""",
        "larger is better": """
def can_fail(measure, y):
    good, bad = 20 * np.eye(10)[y], 20 * np.eye(10)[(y + 1) % 10]
    return bool(measure(good, y) > measure(bad, y) + 1e-6)
""",
        "random against right": """
def can_fail(measure, y):
    noise = np.random.default_rng(0).normal(0, 5, (len(y), 10))
    return bool(abs(measure(20 * np.eye(10)[y], y) - measure(noise, y)) > 1e-6)
""",
        "believes every measure": """
def can_fail(measure, y):
    return True
""",
        "returns the value": """
def can_fail(measure, y):
    return measure(20 * np.eye(10)[y], y) - measure(20 * np.eye(10)[(y + 1) % 10], y)
""",
    },
    "08.4": {
        "all are honest": """
faults = dict.fromkeys("ABCDE", "honest")
""",
        "a low number suspected": """
faults = {"A": "denominator", "B": "misled", "C": "honest", "D": "units", "E": "honest"}
""",
        "units and misled exchanged": """
faults = {"A": "denominator", "B": "honest", "C": "honest", "D": "misled", "E": "units"}
""",
        "denominator not seen": """
faults = {"A": "honest", "B": "honest", "C": "honest", "D": "units", "E": "misled"}
""",
        "a letter is missing": """
faults = {"A": "denominator", "B": "honest", "C": "honest", "D": "units"}
""",
        "words of one's own": """
faults = {"A": "denominator", "B": "good", "C": "good", "D": "units", "E": "misled"}
""",
    },
    "08.5": {
        "the same again": """
def mended(inner, mean, std, x, y, eps):
    return theirs(inner, mean, std, x, y, eps)
""",
        "only the unit": """
def mended(inner, mean, std, x, y, eps):
    return theirs(inner, mean, std, x, y, eps / std)
""",
        "unit and count, no box": """
def mended(inner, mean, std, x, y, eps):
    return theirs(inner, mean, std, x, y, eps / std) * (inner((x - mean) / std).numpy().argmax(axis=1) == y).mean()
""",
        "box and count, no unit": """
def mended(inner, mean, std, x, y, eps):
    def model(x):
        return inner((x - mean) / std)

    return right(model, advlib.pgd(model, x, y, eps=eps * std, steps=20), y).mean()
""",
        "over the initially correct": """
def mended(inner, mean, std, x, y, eps):
    def model(x):
        return inner((x - mean) / std)

    fine = right(model, x, y)
    return right(model, advlib.pgd(model, x, y, eps=eps, steps=20), y).sum() / fine.sum()
""",
        "one step": """
def mended(inner, mean, std, x, y, eps):
    def model(x):
        return inner((x - mean) / std)

    return right(model, advlib.fgsm(model, x, y, eps=eps), y).mean()
""",
        "standardised twice": """
def mended(inner, mean, std, x, y, eps):
    def model(x):
        return inner((x - mean) / std)

    return right(inner, advlib.pgd(model, x, y, eps=eps, steps=20), y).mean()
""",
    },
}

OTHERWISE = {
    "08.1": """
def ends(clean, left):
    low = high = clean
    for k in left:
        low -= clean - k
        high = k if k < high else high
    return [low if low > 0 else 0, high]
""",
    "08.3": """
def can_fail(measure, y):
    values = []
    for shift in (0, 3):
        z = np.full((len(y), 10), -30.0)
        for i, label in enumerate(y):
            z[i, (label + shift) % 10] = 0
        values.append(float(measure(z, y)))
    return abs(values[0] - values[1]) > 1e-6 * max(map(abs, values))
""",
    "08.5": """
def mended(inner, mean, std, x, y, eps):
    z = x.copy()
    for _ in range(30):
        points = tf.constant(z)
        with tf.GradientTape() as tape:
            tape.watch(points)
            loss = tf.reduce_sum(losses.margin(inner((points - mean) / std), y))
        z = z + eps / 10 * np.sign(tape.gradient(loss, points))
        z = np.clip(np.clip(z, x - eps, x + eps), 0, 1).astype("float32")
    both = [inner(((points - mean) / std).astype("float32")).numpy().argmax(axis=1) == y for points in (x, z)]
    return np.mean(both[0] & both[1])
""",
}
