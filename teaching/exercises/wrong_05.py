"""Lesson 05: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "05.1": {
        "minimum of averages": """
def three_numbers(y, clean, under):
    right = clean == y
    robust = min([right.mean(), *[((u == y) & right).mean() for u in under]])
    return right.mean(), robust, 1 - robust / right.mean() if right.any() else float("nan")
""",
        "divided by all": """
def three_numbers(y, clean, under):
    right = clean == y
    standing = right & (under == y).all(axis=0)
    return right.mean(), standing.mean(), (right & ~standing).mean()
""",
        "wrong images healed": """
def three_numbers(y, clean, under):
    right = clean == y
    standing = (under == y).all(axis=0)
    return right.mean(), standing.mean(), (right & ~standing).sum() / right.sum()
""",
        "any attack survived": """
def three_numbers(y, clean, under):
    right = clean == y
    standing = right & (under == y).any(axis=0)
    return right.mean(), standing.mean(), (right & ~standing).sum() / right.sum()
""",
        "zero for NaN": """
def three_numbers(y, clean, under):
    right = clean == y
    standing = right & (under == y).all(axis=0)
    return right.mean(), standing.mean(), (right & ~standing).sum() / max(right.sum(), 1)
""",
    },
    "05.2": {
        "smaller of two columns": """
counts = [5, 4, 4, 4]
success = 1 / 5
""",
        "E healed under up": """
counts = [5, 5, 4, 3]
success = 2 / 5
""",
        "divided by six": """
counts = [5, 4, 4, 3]
success = 2 / 6
""",
        "errors, not successes": """
counts = [5, 4, 4, 3]
success = 3 / 6
""",
        "shares, not counts": """
counts = [5 / 6, 4 / 6, 4 / 6, 3 / 6]
success = 2 / 5
""",
    },
    "05.3": {
        "half the width": """
def images_needed(share, width):
    return int(np.ceil(1.96**2 * share * (1 - share) / width**2)) or 1
""",
        "worst share always": """
def images_needed(share, width):
    return int(np.ceil(4 * 1.96**2 * 0.25 / width**2))
""",
        "no length at one": """
def images_needed(share, width):
    return max(1, int(np.ceil(4 * 1.96**2 * share * (1 - share) / width**2)))
""",
        "one standard deviation": """
def images_needed(share, width):
    return max(1, int(np.ceil(4 * share * (1 - share) / width**2)))
""",
        "rounded up generously": """
def images_needed(share, width):
    n = 1
    while True:
        low, high = robustness.interval(round(share * n), n)
        if high - low <= width:
            return n
        n *= 2
""",
    },
    "05.4": {
        "all with other shares": """
apart = ["AB", "AC", "AE", "BC", "BD", "BE", "CD", "CE", "DE"]
""",
        "none at all": """
apart = []
""",
        "one is missing": """
apart = ["BC", "CE"]
""",
        "points, not intervals": """
apart = ["AC", "BC", "BE", "CE"]
""",
    },
    "05.5": {
        "still believing": """
def honest(model, x, y, attacks, norm, eps):
    standing = models.predict_logits(model, x).argmax(axis=1) == y
    for attack in attacks.values():
        standing &= models.predict_logits(model, attack(model, x, y)).argmax(axis=1) == y
    return standing.mean()
""",
        "minimum of averages": """
def honest(model, x, y, attacks, norm, eps):
    report = advlib.evaluate(model, x, y, attacks, norm=norm, eps=eps)
    return min(report.accuracy(name) for name in attacks)
""",
        "no box": """
def honest(model, x, y, attacks, norm, eps):
    standing = models.predict_logits(model, x).argmax(axis=1) == y
    for attack in attacks.values():
        x_adv = attack(model, x, y)
        fits = norms.get(norm).size(x_adv - x).numpy() <= eps + robustness.tolerance(norm, eps)
        right = np.asarray(model(np.nan_to_num(x_adv))).argmax(axis=1) == y
        standing &= right | ~fits
    return standing.mean()
""",
        "one cheat spoils all": """
def honest(model, x, y, attacks, norm, eps):
    standing = models.predict_logits(model, x).argmax(axis=1) == y
    for attack in attacks.values():
        x_adv = attack(model, x, y)
        fits = norms.get(norm).size(x_adv - x).numpy() <= eps + robustness.tolerance(norm, eps)
        if fits.all() and np.isfinite(x_adv).all() and x_adv.min() >= 0 and x_adv.max() <= 1:
            standing &= models.predict_logits(model, x_adv).argmax(axis=1) == y
    return standing.mean()
""",
        "no allowance for rounding": """
def honest(model, x, y, attacks, norm, eps):
    standing = models.predict_logits(model, x).argmax(axis=1) == y
    for attack in attacks.values():
        x_adv = attack(model, x, y)
        fits = norms.get(norm).size(x_adv - x).numpy() <= eps
        fits &= (x_adv >= 0).all(axis=(1, 2, 3)) & (x_adv <= 1).all(axis=(1, 2, 3))
        right = models.predict_logits(model, np.where(fits[:, None, None, None], x_adv, x)).argmax(axis=1) == y
        standing &= right
    return standing.mean()
""",
        "wrong images healed": """
def honest(model, x, y, attacks, norm, eps):
    standing = np.ones(len(x), bool)
    for attack in attacks.values():
        x_adv = attack(model, x, y)
        fits = norms.get(norm).size(x_adv - x).numpy() <= eps + robustness.tolerance(norm, eps)
        fits &= (x_adv >= 0).all(axis=(1, 2, 3)) & (x_adv <= 1).all(axis=(1, 2, 3))
        standing &= models.predict_logits(model, np.where(fits[:, None, None, None], x_adv, x)).argmax(axis=1) == y
    return standing.mean()
""",
    },
}

OTHERWISE = {
    "05.1": """
def three_numbers(y, clean, under):
    n, right, standing = len(y), 0, 0
    for i in range(n):
        if clean[i] == y[i]:
            right += 1
            standing += all(attack[i] == y[i] for attack in under)
    return right / n, standing / n, (right - standing) / right if right else float("nan")
""",
    "05.3": """
def images_needed(share, width):
    z, n = 1.959964, 1

    def wilson(n):
        p = round(share * n) / n
        return 2 * z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)

    while wilson(n) > width:
        n += 1
    return n
""",
    "05.5": """
def honest(model, x, y, attacks, norm, eps):
    return advlib.evaluate(model, x, y, attacks, norm=norm, eps=eps).robust_accuracy
""",
}
