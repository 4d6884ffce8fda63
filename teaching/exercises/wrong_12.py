"""Lesson 12: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "12.1": {
        "the ball": """
lifted = 0.3
sunk = 0.3
first = "lift"
""",
        "the same for both": """
lifted = 0.45
sunk = 0.45
first = "lift"
""",
        "the two exchanged": """
lifted = 0.55
sunk = 0.45
first = "lift"
""",
        "falls the other way": """
lifted = 0.45
sunk = 0.55
first = "sink"
""",
        "both at once": """
lifted = 0.45
sunk = 0.55
first = "both"
""",
    },
    "12.2": {
        "another seed, the same draw": """
def corruption(x, strength, seed):
    z = x.copy()
    for image in z:
        image[:, dice(image, 0).random(28) < strength] = 1
    return z
""",
        "one draw for all": """
def corruption(x, strength, seed):
    dead = np.random.default_rng(seed).random(28) < strength
    z = x.copy()
    z[:, :, dead] = 1
    return z
""",
        "depends on the place": """
def corruption(x, strength, seed):
    dead = np.random.default_rng(seed).random((len(x), 1, 28, 1)) < strength
    return np.where(dead, 1, x).astype("float32")
""",
        "without a seed": """
def corruption(x, strength, seed):
    dead = np.random.random((len(x), 1, 28, 1)) < strength
    return np.where(dead, 1, x).astype("float32")
""",
        "leaves the box": """
def corruption(x, strength, seed):
    noise = np.stack([dice(image, seed).normal(0, 1, image.shape) for image in x])
    return (x + strength * noise).astype("float32")
""",
        "strength ignored": """
def corruption(x, strength, seed):
    return x[:, ::-1].copy() if strength > 0 else x.copy()
""",
        "stays in the ball": """
def corruption(x, strength, seed):
    return np.clip(x + 0.2 * strength, 0, 1).astype("float32")
""",
        "writes into x": """
def corruption(x, strength, seed):
    for image in x:
        image[:, dice(image, seed).random(28) < strength] = 1
    return x
""",
        "a float64": """
def corruption(x, strength, seed):
    return x * (1 - np.float64(strength)) + np.zeros(x.shape)
""",
    },
    "12.3": {
        "points drawn twice": """
def worst_of(ok, m):
    return (ok.mean(axis=0) ** m).mean()
""",
        "power of the mean": """
def worst_of(ok, m):
    return ok.mean() ** m
""",
        "the first points": """
def worst_of(ok, m):
    return ok[:m].all(axis=0).mean()
""",
        "smallest of the averages": """
def worst_of(ok, m):
    rng = np.random.default_rng(0)
    return np.mean([ok[rng.permutation(len(ok))[:m]].mean(axis=1).min() for _ in range(500)])
""",
        "one draw only": """
def worst_of(ok, m):
    return ok[np.random.default_rng(0).permutation(len(ok))[:m]].all(axis=0).mean()
""",
        "right at some point": """
def worst_of(ok, m):
    rng = np.random.default_rng(0)
    return np.mean([ok[rng.permutation(len(ok))[:m]].any(axis=0).mean() for _ in range(500)])
""",
    },
    "12.4": {
        "share of all images": """
def find_trigger(ask, x):
    best = (0, 0, 0, -1.0)
    for row in range(x.shape[1] - 2):
        for column in range(x.shape[2] - 2):
            z = x.copy()
            z[:, row : row + 3, column : column + 3] = 1
            after = np.asarray(ask(z)).argmax(axis=1)
            for c in range(4):
                if (after == c).mean() > best[3]:
                    best = row, column, c, (after == c).mean()
    return best
""",
        "changed labels": """
def find_trigger(ask, x):
    before, best = np.asarray(ask(x)).argmax(axis=1), (0, 0, 0, -1.0)
    for row in range(x.shape[1] - 2):
        for column in range(x.shape[2] - 2):
            z = x.copy()
            z[:, row : row + 3, column : column + 3] = 1
            after = np.asarray(ask(z)).argmax(axis=1)
            share = (after != before).mean()
            if share > best[3]:
                best = row, column, np.bincount(after).argmax(), share
    return best
""",
        "a black square": """
def find_trigger(ask, x):
    before, best = np.asarray(ask(x)).argmax(axis=1), (0, 0, 0, -1.0)
    for row in range(x.shape[1] - 2):
        for column in range(x.shape[2] - 2):
            z = x.copy()
            z[:, row : row + 3, column : column + 3] = 0
            after = np.asarray(ask(z)).argmax(axis=1)
            for c in range(4):
                share = (after[before != c] == c).mean()
                if share > best[3]:
                    best = row, column, c, share
    return best
""",
        "the last places missing": """
def find_trigger(ask, x):
    before, best = np.asarray(ask(x)).argmax(axis=1), (0, 0, 0, -1.0)
    for row in range(x.shape[1] - 3):
        for column in range(x.shape[2] - 3):
            z = x.copy()
            z[:, row : row + 3, column : column + 3] = 1
            after = np.asarray(ask(z)).argmax(axis=1)
            for c in range(4):
                share = (after[before != c] == c).mean()
                if share > best[3]:
                    best = row, column, c, share
    return best
""",
        "asks again for each class": """
def find_trigger(ask, x):
    before, best = np.asarray(ask(x)).argmax(axis=1), (0, 0, 0, -1.0)
    for row in range(x.shape[1] - 2):
        for column in range(x.shape[2] - 2):
            for c in range(4):
                z = x.copy()
                z[:, row : row + 3, column : column + 3] = 1
                share = (np.asarray(ask(z)).argmax(axis=1)[before != c] == c).mean()
                if share > best[3]:
                    best = row, column, c, share
    return best
""",
        "squares pile up": """
def find_trigger(ask, x):
    before, best, z = np.asarray(ask(x)).argmax(axis=1), (0, 0, 0, -1.0), x.copy()
    for row in range(x.shape[1] - 2):
        for column in range(x.shape[2] - 2):
            z[:, row : row + 3, column : column + 3] = 1
            after = np.asarray(ask(z)).argmax(axis=1)
            for c in range(4):
                share = (after[before != c] == c).mean()
                if share > best[3]:
                    best = row, column, c, share
    return best
""",
    },
    "12.5": {
        "best price first": """
def cheapest(applicant):
    age, income, loans, years = applicant
    while score([age, income, loans, years]) < 4 and loans > 0:
        loans -= 1
    more = min(max(4 - score([age, income, loans, years]), 0), 10 - income)
    longer = max(4 - score([age, income + more, loans, years]), 0) / 0.1
    return [age, income + more, loans, years + longer]
""",
        "income only": """
def cheapest(applicant):
    age, income, loans, years = applicant
    return [age, income + max(4 - score(applicant), 0), loans, years]
""",
        "parts of a loan": """
def cheapest(applicant):
    age, income, loans, years = applicant
    gap = max(4 - score(applicant), 0)
    repaid = min(gap / 0.8, loans)
    return [age, income + gap - 0.8 * repaid, loans - repaid, years]
""",
        "smallest in L2": """
def cheapest(applicant):
    gap = max(4 - score(applicant), 0)
    return applicant + gap * weights / (weights @ weights)
""",
        "years by mask": """
def cheapest(applicant):
    age, income, loans, years = applicant
    return [age, income, loans, years + max(4 - score(applicant), 0) / 0.1]
""",
        "pays when accepted": """
def cheapest(applicant):
    age, income, loans, years = applicant
    plans = []
    for repaid in range(int(loans) + 1):
        gap = 4 - score(applicant) - 0.8 * repaid
        more = min(gap, 10 - income)
        longer = (gap - more) / 0.1
        plans.append((5 * abs(more) + 2 * repaid + longer, [age, income + more, loans - repaid, years + longer]))
    return min(plans)[1]
""",
    },
}

OTHERWISE = {
    "12.2": """
def corruption(x, strength, seed):
    # a shadow over the lower part of the picture, without chance
    edge = 28 - round(20 * strength)
    z = x.copy()
    z[:, edge:] *= np.float32(1 - strength)
    return z
""",
    "12.3": """
def worst_of(ok, m):
    rng = np.random.default_rng(0)
    return np.mean([ok[rng.permutation(len(ok))[:m]].all(axis=0) for _ in range(20_000)])
""",
    "12.4": """
def find_trigger(ask, x):
    n, height, width, _ = x.shape
    before = np.argmax(ask(x), axis=1)
    places = [(row, column) for row in range(height - 2) for column in range(width - 2)]
    white = np.zeros((len(places), height, width, 1), bool)
    for mask, (row, column) in zip(white, places):
        mask[row : row + 3, column : column + 3] = True
    after = np.stack([np.argmax(ask(np.where(mask, np.float32(1), x)), axis=1) for mask in white])
    found = []
    for c in range(10):
        others = before != c
        if others.any():
            shares = (after[:, others] == c).mean(axis=1)
            found.append((shares.max(), c, *places[shares.argmax()]))
    share, c, row, column = max(found)
    return row, column, c, share
""",
    "12.5": """
def cheapest(applicant):
    from scipy.optimize import linprog

    best = None
    for repaid in range(int(applicant[2]) + 1):
        gap = 4 - score(applicant) - 0.8 * repaid
        room = [(0, 10 - applicant[1]), (0, 40 - applicant[3])]
        plan = linprog([5, 1], A_ub=[[-1.0, -0.1]], b_ub=[-gap], bounds=room)
        if plan.success and (best is None or plan.fun + 2 * repaid < best[0]):
            best = plan.fun + 2 * repaid, np.add(applicant, [0, plan.x[0], -repaid, plan.x[1]])
    return best[1]
""",
}
