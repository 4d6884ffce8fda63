"""Lesson 00: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "00.1": {
        "no clip": """
rising = 1.05
falling = 0.85
flat = 0.95
""",
        "a step in proportion": """
rising = 1.0
falling = 0.949999
flat = 0.95
""",
        "no gradient, full step": """
rising = 1.0
falling = 0.85
flat = 1.0
""",
        "downhill": """
rising = 0.85
falling = 1.0
flat = 0.95
""",
    },
    "00.2": {
        "no clip": """
def one_step(x, g, eps):
    return x + eps * np.sign(g)
""",
        "downhill": """
def one_step(x, g, eps):
    return np.clip(x - eps * np.sign(g), 0, 1)
""",
        "without the sign": """
def one_step(x, g, eps):
    return np.clip(x + eps * g, 0, 1)
""",
        "in proportion to the gradient": """
def one_step(x, g, eps):
    return np.clip(x + eps * g / np.abs(g).max(), 0, 1)
""",
        "a sign without zero": """
def one_step(x, g, eps):
    return np.clip(x + eps * np.where(g >= 0, 1, -1), 0, 1)
""",
        "sign by division": """
def one_step(x, g, eps):
    with np.errstate(all="ignore"):
        return np.clip(x + eps * g / np.abs(g), 0, 1)
""",
        "changes its input": """
def one_step(x, g, eps):
    x += eps * np.sign(g)
    return np.clip(x, 0, 1)
""",
    },
    "00.3": {
        "number of terms": """
colour = 3072
half = 392
""",
        "colours forgotten": """
colour = 32
half = 19.8
""",
        "half the weights, half the ratio": """
colour = 55.4
half = 14
""",
        "zeros counted": """
colour = 55.4
half = 28
""",
    },
    "00.4": {
        "misread before as well": """
def broken_and_mended(before, after, y):
    return np.flatnonzero(after != y), np.flatnonzero(after == y)
""",
        "any changed answer": """
def broken_and_mended(before, after, y):
    changed = before != after
    return np.flatnonzero(changed & (after != y)), np.flatnonzero(changed & (after == y))
""",
        "the lists swapped": """
def broken_and_mended(before, after, y):
    return np.flatnonzero((before != y) & (after == y)), np.flatnonzero((before == y) & (after != y))
""",
        "counts, not places": """
def broken_and_mended(before, after, y):
    return np.sum((before == y) & (after != y)), np.sum((before != y) & (after == y))
""",
    },
    "00.5": {
        "rounding forgiven in the range": """
def allowed(x_new, x, eps):
    near = np.abs(x_new - x).max(axis=(1, 2, 3)) <= eps + 1e-6
    return near & (x_new.min(axis=(1, 2, 3)) >= -1e-6) & (x_new.max(axis=(1, 2, 3)) <= 1 + 1e-6)
""",
        "too much forgiven": """
def allowed(x_new, x, eps):
    near = np.abs(x_new - x).max(axis=(1, 2, 3)) <= eps + 0.01
    return near & (x_new.min(axis=(1, 2, 3)) >= 0) & (x_new.max(axis=(1, 2, 3)) <= 1)
""",
        "only the distance": """
def allowed(x_new, x, eps):
    return np.abs(x_new - x).max(axis=(1, 2, 3)) <= eps + 1e-6
""",
        "only upwards": """
def allowed(x_new, x, eps):
    near = (x_new - x).max(axis=(1, 2, 3)) <= eps + 1e-6
    return near & (x_new.min(axis=(1, 2, 3)) >= 0) & (x_new.max(axis=(1, 2, 3)) <= 1)
""",
        "the mean pixel": """
def allowed(x_new, x, eps):
    near = np.abs(x_new - x).mean(axis=(1, 2, 3)) <= eps + 1e-6
    return near & (x_new.min(axis=(1, 2, 3)) >= 0) & (x_new.max(axis=(1, 2, 3)) <= 1)
""",
        "one verdict for all": """
def allowed(x_new, x, eps):
    fine = np.abs(x_new - x).max() <= eps + 1e-6 and x_new.min() >= 0 and x_new.max() <= 1
    return np.full(len(x), fine)
""",
        "no rounding forgiven": """
def allowed(x_new, x, eps):
    near = np.abs(x_new - x).max(axis=(1, 2, 3)) < eps
    return near & (x_new.min(axis=(1, 2, 3)) >= 0) & (x_new.max(axis=(1, 2, 3)) <= 1)
""",
        "NaN slips through": """
def allowed(x_new, x, eps):
    far = np.abs(x_new - x) > eps + 1e-6
    return ~(far | (x_new < 0) | (x_new > 1)).any(axis=(1, 2, 3))
""",
    },
}

OTHERWISE = {
    "00.2": """
def one_step(x, g, eps):
    moved = np.where(g > 0, x + eps, np.where(g < 0, x - eps, x))
    return np.minimum(np.maximum(moved, 0), 1)
""",
    "00.4": """
def broken_and_mended(before, after, y):
    broken, mended = [], []
    for i in range(len(y)):
        if before[i] == y[i] and after[i] != y[i]:
            broken.append(i)
        elif before[i] != y[i] and after[i] == y[i]:
            mended.append(i)
    return np.array(broken, int), np.array(mended, int)
""",
    "00.5": """
def allowed(x_new, x, eps):
    verdicts = []
    for new, old in zip(x_new, x):
        room = (old.astype("float64") - eps - 1e-6 <= new) & (new <= old.astype("float64") + eps + 1e-6)
        verdicts.append(bool((room & (0 <= new) & (new <= 1)).all()))
    return np.array(verdicts)
""",
}
