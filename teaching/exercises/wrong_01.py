"""Lesson 01: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "01.1": {
        "overflow": """
def cross_entropy(z, y):
    return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y]
""",
        "logarithm of a rounded probability": """
def cross_entropy(z, y):
    return -np.log(softmax(z, axis=1)[np.arange(len(z)), y])
""",
        "the mean of the batch": """
def cross_entropy(z, y):
    return (logsumexp(z, axis=1) - z[np.arange(len(z)), y]).mean()
""",
        "plus the true logit": """
def cross_entropy(z, y):
    return logsumexp(z, axis=1) + z[np.arange(len(z)), y]
""",
        "the largest probability": """
def cross_entropy(z, y):
    return logsumexp(z, axis=1) - z.max(axis=1)
""",
        "logarithm to base two": """
def cross_entropy(z, y):
    return (logsumexp(z, axis=1) - z[np.arange(len(z)), y]) / np.log(2)
""",
        "minus the sign": """
def cross_entropy(z, y):
    return z[np.arange(len(z)), y] - logsumexp(z, axis=1)
""",
    },
    "01.2": {
        "sum, not mean": """
def one_update(w, b, x, y, rate):
    error = softmax(x @ w + b, axis=1) - np.eye(w.shape[1])[y]
    return w - rate * x.T @ error, b - rate * error.sum(axis=0)
""",
        "uphill": """
def one_update(w, b, x, y, rate):
    error = softmax(x @ w + b, axis=1) - np.eye(w.shape[1])[y]
    return w + rate * x.T @ error / len(x), b + rate * error.mean(axis=0)
""",
        "b forgotten": """
def one_update(w, b, x, y, rate):
    error = softmax(x @ w + b, axis=1) - np.eye(w.shape[1])[y]
    return w - rate * x.T @ error / len(x), b
""",
        "without the softmax": """
def one_update(w, b, x, y, rate):
    error = x @ w + b - np.eye(w.shape[1])[y]
    return w - rate * x.T @ error / len(x), b - rate * error.mean(axis=0)
""",
        "only the true class": """
def one_update(w, b, x, y, rate):
    one = np.eye(w.shape[1])[y]
    error = (softmax(x @ w + b, axis=1) - 1) * one
    return w - rate * x.T @ error / len(x), b - rate * error.mean(axis=0)
""",
        "mean over classes too": """
def one_update(w, b, x, y, rate):
    error = softmax(x @ w + b, axis=1) - np.eye(w.shape[1])[y]
    return w - rate * x.T @ error / error.size, b - rate * error.mean(axis=0)
""",
        "in place": """
def one_update(w, b, x, y, rate):
    error = softmax(x @ w + b, axis=1) - np.eye(w.shape[1])[y]
    w -= rate * x.T @ error / len(x)
    b -= rate * error.mean(axis=0)
    return w, b
""",
    },
    "01.3": {
        "half the width": """
def images_needed(share, width):
    c, n = 1.96, 1
    while c / (1 + c**2 / n) * np.sqrt(share * (1 - share) / n + c**2 / (4 * n**2)) >= width:
        n += 1
    return n
""",
        "the textbook formula": """
def images_needed(share, width):
    return max(1, int(np.ceil(4 * 1.96**2 * share * (1 - share) / width**2)))
""",
        "worst case for every share": """
def images_needed(share, width):
    return int(np.ceil((1.96 / width) ** 2)) + 1
""",
        "one standard deviation": """
def images_needed(share, width):
    c, n = 1.0, 1
    while 2 * c / (1 + c**2 / n) * np.sqrt(share * (1 - share) / n + c**2 / (4 * n**2)) >= width:
        n += 1
    return n
""",
        "rounded up to thousands": """
def images_needed(share, width):
    n = 1_000
    while 2 * 1.96 / (1 + 1.96**2 / n) * np.sqrt(share * (1 - share) / n + 1.96**2 / (4 * n**2)) >= width:
        n += 1_000
    return n
""",
    },
    "01.4": {
        "the diagonal included": """
def most_confused(y, predicted, classes):
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (y, predicted), 1)
    errors = confusion + confusion.T
    a, b = np.unravel_index(errors.argmax(), errors.shape)
    return a, b, errors[a, b]
""",
        "one direction": """
def most_confused(y, predicted, classes):
    errors = np.zeros((classes, classes), int)
    np.add.at(errors, (y, predicted), 1)
    np.fill_diagonal(errors, 0)
    a, b = np.unravel_index(errors.argmax(), errors.shape)
    return a, b, errors[a, b]
""",
        "right pair, half the count": """
def most_confused(y, predicted, classes):
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (y, predicted), 1)
    errors = np.triu(confusion + confusion.T, k=1)
    a, b = np.unravel_index(errors.argmax(), errors.shape)
    return a, b, confusion[a, b]
""",
        "only errors upwards": """
def most_confused(y, predicted, classes):
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (y, predicted), 1)
    errors = np.triu(confusion, k=1) * 2
    a, b = np.unravel_index(errors.argmax(), errors.shape)
    return a, b, errors[a, b]
""",
        "digits taken for granted": """
def most_confused(y, predicted, classes):
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (y, predicted), 1)
    errors = np.triu(confusion + confusion.T, k=1)
    a, b = np.unravel_index(errors.argmax(), errors.shape)
    return a, b, errors[a, b]
""",
    },
    "01.5": {
        "ten classes": """
floor = 1.461
changed = 0
""",
        "nothing learnt": """
floor = 4.605
changed = 0
""",
        "no floor": """
floor = 0
changed = 0
""",
        "answers change": """
floor = 3.623
changed = 5
""",
    },
}

OTHERWISE = {
    "01.1": """
def cross_entropy(z, y):
    losses = []
    for row, label in zip(z, y):
        lead = row - row.max()
        losses.append(np.log(np.exp(lead).sum()) - lead[label])
    return np.array(losses)
""",
    "01.2": """
def one_update(w, b, x, y, rate):
    total_w, total_b = np.zeros_like(w), np.zeros_like(b)
    for image, label in zip(x, y):
        logits = image @ w + b
        error = np.exp(logits - logits.max())
        error /= error.sum()
        error[label] -= 1
        total_w += np.outer(image, error)
        total_b += error
    return w - rate / len(y) * total_w, b - rate / len(y) * total_b
""",
    "01.3": """
def images_needed(share, width):
    def enough(n):
        c = 1.959964
        return 2 * c / (n + c**2) * np.sqrt(n * share * (1 - share) + c**2 / 4) < width

    low, high = 0, 1
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        half = (low + high) // 2
        low, high = (low, half) if enough(half) else (half, high)
    return high
""",
    "01.4": """
def most_confused(y, predicted, classes):
    from collections import Counter

    errors = Counter(tuple(sorted((int(a), int(b)))) for a, b in zip(y, predicted) if a != b)
    (a, b), count = errors.most_common(1)[0]
    return b, a, count
""",
}
