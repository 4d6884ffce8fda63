"""Lesson 11: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "11.1": {
        "weights keep their sign": """
def through_abs(low, high, W, b):
    ends = np.abs(low @ W + b), np.abs(high @ W + b)
    return np.minimum(*ends), np.maximum(*ends)
""",
        "ends to ends": """
def through_abs(low, high, W, b):
    middle, radius = (low + high) / 2 @ W + b, (high - low) / 2 @ np.abs(W)
    return np.abs(middle - radius), np.abs(middle + radius)
""",
        "zero is never reached": """
def through_abs(low, high, W, b):
    middle, radius = (low + high) / 2 @ W + b, (high - low) / 2 @ np.abs(W)
    ends = np.abs(middle - radius), np.abs(middle + radius)
    return np.minimum(*ends), np.maximum(*ends)
""",
        "zero is always reached": """
def through_abs(low, high, W, b):
    middle, radius = (low + high) / 2 @ W + b, (high - low) / 2 @ np.abs(W)
    return np.zeros_like(middle), np.abs(middle) + radius
""",
        "a ReLU": """
def through_abs(low, high, W, b):
    middle, radius = (low + high) / 2 @ W + b, (high - low) / 2 @ np.abs(W)
    return np.maximum(middle - radius, 0), np.maximum(middle + radius, 0)
""",
        "bias forgotten": """
def through_abs(low, high, W, b):
    middle, radius = (low + high) / 2 @ W, (high - low) / 2 @ np.abs(W)
    return np.maximum(0, np.abs(middle) - radius), np.abs(middle) + radius
""",
    },
    "11.2": {
        "truth for bound": """
bound = [-0.2, -0.04, 0.08]
truth = [-0.2, -0.04, 0.08]
reach = [0.1, 0.1]
""",
        "bound for truth": """
bound = [-0.1, 0.14, 0.32]
truth = [-0.1, 0.14, 0.32]
reach = [0.4 / 6, 0.4 / 6]
""",
        "largest h1 taken": """
bound = [-0.3, -0.22, -0.16]
truth = [-0.2, -0.04, 0.08]
reach = [0.4 / 6, 0.1]
""",
        "radius of one pixel": """
bound = [-0.25, -0.13, -0.04]
truth = [-0.2, -0.04, 0.08]
reach = [0.4 / 6, 0.1]
""",
        "reach of the lesson's image": """
bound = [-0.1, 0.14, 0.32]
truth = [-0.2, -0.04, 0.08]
reach = [1 / 12, 1 / 8]
""",
    },
    "11.3": {
        "difference of two ends": """
def worst_lead(low, high, W, b, y):
    middle, radius = (low + high) / 2 @ W + b, (high - low) / 2 @ np.abs(W)
    i = np.arange(len(y))
    lead = middle + radius - (middle - radius)[i, y][:, None]
    lead[i, y] = -np.inf
    return lead
""",
        "at the middle only": """
def worst_lead(low, high, W, b, y):
    z = (low + high) / 2 @ W + b
    i = np.arange(len(y))
    lead = z - z[i, y][:, None]
    lead[i, y] = -np.inf
    return lead
""",
        "bias forgotten": """
def worst_lead(low, high, W, b, y):
    difference = W.T[None] - W.T[y][:, None]
    lead = np.where(difference > 0, difference * high[:, None], difference * low[:, None]).sum(axis=2)
    lead[np.arange(len(y)), y] = -np.inf
    return lead
""",
        "at the upper ends": """
def worst_lead(low, high, W, b, y):
    z = high @ W + b
    i = np.arange(len(y))
    lead = z - z[i, y][:, None]
    lead[i, y] = -np.inf
    return lead
""",
        "true class a rival": """
def worst_lead(low, high, W, b, y):
    difference = W.T[None] - W.T[y][:, None]
    lead = np.where(difference > 0, difference * high[:, None], difference * low[:, None]).sum(axis=2)
    return lead + b - b[y][:, None]
""",
        "lead of the true class": """
def worst_lead(low, high, W, b, y):
    difference = W.T[y][:, None] - W.T[None]
    lead = np.where(difference > 0, difference * high[:, None], difference * low[:, None]).sum(axis=2)
    lead += b[y][:, None] - b
    lead[np.arange(len(y)), y] = -np.inf
    return lead
""",
    },
    "11.4": {
        "share as counted": """
def certificates(first, second, sigma, alpha):
    label = first.argmax(axis=1)
    share = second[np.arange(len(label)), label] / second.sum(axis=1)
    sure = share > 0.5
    return np.where(sure, label, -1), np.where(sure, sigma * norm.ppf(np.maximum(share, 0.5)), 0)
""",
        "all draws used twice": """
def certificates(first, second, sigma, alpha):
    votes = first + second
    label, k, n = votes.argmax(axis=1), votes.max(axis=1), votes.sum(axis=1)
    share = beta.ppf(alpha, k, n - k + 1)
    sure = share > 0.5
    return np.where(sure, label, -1), np.where(sure, sigma * norm.ppf(np.maximum(share, 0.5)), 0)
""",
        "second count chooses": """
def certificates(first, second, sigma, alpha):
    label, k, n = second.argmax(axis=1), second.max(axis=1), second.sum(axis=1)
    share = beta.ppf(alpha, k, n - k + 1)
    sure = share > 0.5
    return np.where(sure, label, -1), np.where(sure, sigma * norm.ppf(np.maximum(share, 0.5)), 0)
""",
        "alpha halved": """
def certificates(first, second, sigma, alpha):
    label, n = first.argmax(axis=1), second.sum(axis=1)
    share = smoothing.lower_bound(second[np.arange(len(label)), label], n, alpha / 2)
    sure = share > 0.5
    return np.where(sure, label, -1), np.where(sure, sigma * norm.ppf(np.maximum(share, 0.5)), 0)
""",
        "never abstains": """
def certificates(first, second, sigma, alpha):
    label, n = first.argmax(axis=1), second.sum(axis=1)
    share = smoothing.lower_bound(second[np.arange(len(label)), label], n, alpha)
    return label, np.maximum(sigma * norm.ppf(np.maximum(share, 1e-9)), 0)
""",
        "a two-sided interval": """
def certificates(first, second, sigma, alpha):
    label, n = first.argmax(axis=1), second.sum(axis=1)
    k = second[np.arange(len(label)), label]
    share = np.array([robustness.interval(int(a), int(m))[0] for a, m in zip(k, n)])
    sure = share > 0.5
    return np.where(sure, label, -1), np.where(sure, sigma * norm.ppf(np.maximum(share, 0.5)), 0)
""",
        "sigma forgotten": """
def certificates(first, second, sigma, alpha):
    label, n = first.argmax(axis=1), second.sum(axis=1)
    share = smoothing.lower_bound(second[np.arange(len(label)), label], n, alpha)
    sure = share > 0.5
    return np.where(sure, label, -1), np.where(sure, norm.ppf(np.maximum(share, 0.5)), 0)
""",
    },
    "11.5": {
        "the limit of 1,000 draws": """
limit = 2.463
without = int((radius < 0).sum())
draws = np.log(0.001) / np.log(norm.cdf(4))
""",
        "a share of images": """
limit = float(radius.max())
without = (radius < 0).mean()
draws = np.log(0.001) / np.log(norm.cdf(4))
""",
        "certified, not without": """
limit = float(radius.max())
without = int((radius >= 0).sum())
draws = np.log(0.001) / np.log(norm.cdf(4))
""",
        "sigma left out": """
limit = float(radius.max())
without = int((radius < 0).sum())
draws = np.log(0.001) / np.log(norm.cdf(2))
""",
        "in proportion": """
limit = float(radius.max())
without = int((radius < 0).sum())
draws = 200 * 2 / float(radius.max())
""",
    },
}

OTHERWISE = {
    "11.1": """
def through_abs(low, high, W, b):
    up, down = np.maximum(W, 0), np.minimum(W, 0)
    least, most = low @ up + high @ down + b, high @ up + low @ down + b
    bottom = np.minimum(np.abs(least), np.abs(most))
    bottom[(least < 0) & (most > 0)] = 0
    return bottom, np.maximum(np.abs(least), np.abs(most))
""",
    "11.3": """
def worst_lead(low, high, W, b, y):
    out = np.empty((len(y), W.shape[1]))
    for n, true in enumerate(y):
        for j in range(W.shape[1]):
            w = W[:, j] - W[:, true]
            worst = np.where(w > 0, high[n], low[n])
            out[n, j] = worst @ w + b[j] - b[true] if j != true else -np.inf
    return out
""",
    "11.4": """
def certificates(first, second, sigma, alpha):
    from scipy.optimize import brentq

    label, radius = [], []
    for chosen, votes in zip(first.argmax(axis=1), second):
        k, n = votes[chosen], votes.sum()
        # more than half is certain exactly when so many votes are too rare at a share of one half
        if binom.sf(k - 1, n, 0.5) < alpha:
            share = brentq(lambda p: binom.sf(k - 1, n, p) - alpha, 0.5, 1 - 1e-12, xtol=1e-14)
            label.append(chosen)
            radius.append(sigma * norm.ppf(share))
        else:
            label.append(-1)
            radius.append(0.0)
    return np.array(label), np.array(radius)
""",
}
