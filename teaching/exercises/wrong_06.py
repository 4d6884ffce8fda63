"""Lesson 06: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "06.1": {
        "failure at zero": """
def distances(size, right, broken):
    return np.where(right, size, 0.0)
""",
        "wrong images left out": """
def distances(size, right, broken):
    return np.where(broken, size, np.inf)[right]
""",
        "wrong images infinite": """
def distances(size, right, broken):
    return np.where(right & broken, size, np.inf)
""",
        "minus one for wrong images": """
def distances(size, right, broken):
    return np.where(right, np.where(broken, size, np.inf), -1.0)
""",
        "NaN for failures": """
def distances(size, right, broken):
    return np.where(right, np.where(broken, size, np.nan), 0.0)
""",
        "a large number": """
def distances(size, right, broken):
    return np.where(right, np.where(broken, size, 28.0), 0.0)
""",
    },
    "06.2": {
        "on budget survives": """
accuracies = [1, 5 / 6, 4 / 6, 4 / 6, 1 / 6]
summary = [0.5, 0.525]
afterwards = [0.5, 0.4]
""",
        "over five images": """
accuracies = [1, 4 / 5, 4 / 5, 2 / 5, 1 / 5]
summary = [0.5, 0.525]
afterwards = [0.5, 0.4]
""",
        "zero among successes": """
accuracies = [5 / 6, 4 / 6, 4 / 6, 2 / 6, 1 / 6]
summary = [0.5, 0.42]
afterwards = [0.5, 0.3]
""",
        "median of successes": """
accuracies = [5 / 6, 4 / 6, 4 / 6, 2 / 6, 1 / 6]
summary = [0.35, 0.525]
afterwards = [0.35, 0.4]
""",
    },
    "06.3": {
        "same norm, not dual": """
def plane_distance(logits, gradients, y, norm):
    i = np.arange(len(y))
    g, w = logits - logits[i, y][:, None], gradients - gradients[i, y][:, None]
    slope = np.sqrt((w**2).sum(axis=2)) if norm == "l2" else np.abs(w).max(axis=2)
    never = slope == 0
    d = np.where(never, np.inf, -g / np.where(never, 1, slope)).min(axis=1)
    return np.where(logits.argmax(axis=1) == y, d, 0.0)
""",
        "the runner-up only": """
def plane_distance(logits, gradients, y, norm):
    i = np.arange(len(y))
    g, w = logits - logits[i, y][:, None], gradients - gradients[i, y][:, None]
    k = np.where(np.arange(logits.shape[1]) == y[:, None], -np.inf, logits).argmax(axis=1)
    slope = np.sqrt((w**2).sum(axis=2)) if norm == "l2" else np.abs(w).sum(axis=2)
    return np.where(logits.argmax(axis=1) == y, -g[i, k] / slope[i, k], 0.0)
""",
        "own class counted": """
def plane_distance(logits, gradients, y, norm):
    i = np.arange(len(y))
    g, w = logits - logits[i, y][:, None], gradients - gradients[i, y][:, None]
    slope = np.linalg.norm(w, ord=2 if norm == "l2" else 1, axis=2)
    return np.nan_to_num(np.abs(g) / slope).min(axis=1)
""",
        "gradient of one logit": """
def plane_distance(logits, gradients, y, norm):
    i = np.arange(len(y))
    g = logits - logits[i, y][:, None]
    slope = np.linalg.norm(gradients, ord=2 if norm == "l2" else 1, axis=2)
    d = np.where(np.arange(logits.shape[1]) == y[:, None], np.inf, -g / slope).min(axis=1)
    return np.where(logits.argmax(axis=1) == y, d, 0.0)
""",
        "the farthest plane": """
def plane_distance(logits, gradients, y, norm):
    i = np.arange(len(y))
    g, w = logits - logits[i, y][:, None], gradients - gradients[i, y][:, None]
    slope = np.linalg.norm(w, ord=2 if norm == "l2" else 1, axis=2)
    return np.where(slope > 0, -g / np.maximum(slope, 1e-12), 0).max(axis=1)
""",
        "wrong images negative": """
def plane_distance(logits, gradients, y, norm):
    i = np.arange(len(y))
    g, w = logits - logits[i, y][:, None], gradients - gradients[i, y][:, None]
    slope = np.linalg.norm(w, ord=2 if norm == "l2" else 1, axis=2)
    return np.where(slope == 0, np.inf, -g / np.where(slope == 0, 1, slope)).min(axis=1)
""",
    },
    "06.4": {
        "L2 everywhere": """
at_first = [(3, 0.237), (3, 0.237)]
at_second = [(1, 0.19), (1, 0.19)]
""",
        "smallest lead decides": """
at_first = [(1, 0.24), (1, 0.24)]
at_second = [(1, 0.19), (1, 0.19)]
""",
        "same norm, not dual": """
at_first = [(3, 0.237), (1, 0.24)]
at_second = [(1, 0.19), (1, 0.19)]
""",
        "with the overshoot": """
at_first = [(3, 1.02 * 1.5 / 40**0.5), (3, 1.05 * 1.5 / 8)]
at_second = [(1, 0.2), (2, 0.17)]
""",
    },
    "06.5": {
        "one pass": """
def spare(model, image, adversarial, label):
    z = adversarial.copy()
    for row, column, _ in np.argwhere(adversarial != image):
        trial = z.copy()
        trial[row, column] = image[row, column]
        if predicted(model, trial[None])[0] != label:
            z = trial
    return z
""",
        "all at once": """
def spare(model, image, adversarial, label):
    z = adversarial.copy()
    for row, column, _ in np.argwhere(adversarial != image):
        trial = adversarial.copy()
        trial[row, column] = image[row, column]
        if predicted(model, trial[None])[0] != label:
            z[row, column] = image[row, column]
    return z
""",
        "to black": """
def spare(model, image, adversarial, label):
    z = adversarial.copy()
    for row, column, _ in np.argwhere(adversarial != image):
        trial = z.copy()
        trial[row, column] = 0
        if predicted(model, trial[None])[0] != label:
            z = trial
    return z
""",
        "stops at the first": """
def spare(model, image, adversarial, label):
    z = adversarial.copy()
    for row, column, _ in np.argwhere(adversarial != image):
        trial = z.copy()
        trial[row, column] = image[row, column]
        if predicted(model, trial[None])[0] == label:
            return z
        z = trial
    return z
""",
        "one pixel only": """
def spare(model, image, adversarial, label):
    for row, column, _ in np.argwhere(adversarial != image):
        trial = adversarial.copy()
        trial[row, column] = image[row, column]
        if predicted(model, trial[None])[0] != label:
            return trial
    return adversarial
""",
        "the clean image": """
def spare(model, image, adversarial, label):
    return image
""",
    },
}

OTHERWISE = {
    "06.1": """
def distances(size, right, broken):
    found = []
    for length, was_right, is_broken in zip(size, right, broken):
        found.append(0.0 if not was_right else float(length) if is_broken else float("inf"))
    return np.array(found)
""",
    "06.3": """
def plane_distance(logits, gradients, y, norm):
    found = []
    for z, w, c in zip(logits, gradients, y):
        ways = [float("inf")]
        for k in range(len(z)):
            slope = np.linalg.norm(w[k] - w[c], 2 if norm == "l2" else 1)
            if k != c and slope > 0:
                ways.append((z[c] - z[k]) / slope)
        found.append(0.0 if z.argmax() != c else min(ways))
    return np.array(found)
""",
    "06.5": """
def spare(model, image, adversarial, label):
    z = adversarial.copy()
    while True:
        changed = np.argwhere((z != image).any(axis=2))
        if not len(changed):
            return z
        trials = np.repeat(z[None], len(changed), axis=0)
        for trial, (row, column) in zip(trials, changed):
            trial[row, column] = image[row, column]
        free = np.flatnonzero(predicted(model, trials) != label)
        if not len(free):
            return z
        z = trials[free[-1]]
""",
}
