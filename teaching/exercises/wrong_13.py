"""Lesson 13: answers that must get a hint, and right ones written in another way."""

WRONG = {
    "13.1": {
        "the maker's sample forgotten": """
both = 385
exact = 385
caught = 0.5
""",
        "two samples each time": """
both = 769
exact = 769
caught = 0.5
""",
        "doubled for half of it": """
both = 2 * 193
exact = 193
caught = 0.5
""",
        "caught nearly always": """
both = 769
exact = 385
caught = 0.975
""",
        "a hundred times": """
both = 19300
exact = 9650
caught = 0.5
""",
    },
    "13.2": {
        "refusals stand": """
def judged(y, said, classes, claimed, found):
    standing = np.logical_and.reduce([(a == y) | (a == classes) for a in said.values()])
    robust = 100 * standing.mean()
    return robust, "sign" if claimed <= robust + 10 and not found else "send back"
""",
        "minimum of averages": """
def judged(y, said, classes, claimed, found):
    robust = 100 * min((a == y).mean() for a in said.values())
    return robust, "sign" if claimed <= robust + 10 and not found else "send back"
""",
        "refusals left out": """
def judged(y, said, classes, claimed, found):
    answers = np.array(list(said.values()))
    asked = (answers != classes).all(axis=0)
    robust = 100 * (answers == y).all(axis=0)[asked].mean()
    return robust, "sign" if claimed <= robust + 10 and not found else "send back"
""",
        "clean refusals forgiven": """
def judged(y, said, classes, claimed, found):
    robust = 100 * np.logical_and.reduce([a == y for name, a in said.items() if name != "clean"]).mean()
    return robust, "sign" if claimed <= robust + 10 and not found else "send back"
""",
        "signs high numbers only": """
def judged(y, said, classes, claimed, found):
    robust = 100 * np.logical_and.reduce([a == y for a in said.values()]).mean()
    return robust, "sign" if robust > 50 and claimed <= robust + 10 and not found else "send back"
""",
        "findings forgotten": """
def judged(y, said, classes, claimed, found):
    robust = 100 * np.logical_and.reduce([a == y for a in said.values()]).mean()
    return robust, "sign" if claimed <= robust + 10 else "send back"
""",
        "ten points either way": """
def judged(y, said, classes, claimed, found):
    robust = 100 * np.logical_and.reduce([a == y for a in said.values()]).mean()
    return robust, "sign" if abs(claimed - robust) < 10 and not found else "send back"
""",
        "a share, not per cent": """
def judged(y, said, classes, claimed, found):
    robust = np.logical_and.reduce([a == y for a in said.values()]).mean()
    return robust, "sign" if claimed / 100 <= robust + 0.1 and not found else "send back"
""",
    },
    "13.3": {
        "none is not counted": """
def gone(model, x, y):
    ok = correct(model, x, y)
    x, y, shares = tf.constant(x[ok]), y[ok], []
    for f in (lambda z: losses.cross_entropy(z, y), lambda z: tf.gather(z, y, axis=1, batch_dims=1)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(f(model(x)))
        g = tape.gradient(value, x)
        shares.append(0.0 if g is None else (g.numpy() == 0).all(axis=(1, 2, 3)).mean())
    return shares
""",
        "tiny taken for zero": """
def gone(model, x, y):
    ok = correct(model, x, y)
    x, y, shares = tf.constant(x[ok]), y[ok], []
    for f in (lambda z: losses.cross_entropy(z, y), lambda z: tf.gather(z, y, axis=1, batch_dims=1)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(f(model(x)))
        g = tape.gradient(value, x)
        shares.append(1.0 if g is None else np.isclose(g, 0).all(axis=(1, 2, 3)).mean())
    return shares
""",
        "of all images": """
def gone(model, x, y):
    x, shares = tf.constant(x), []
    for f in (lambda z: losses.cross_entropy(z, y), lambda z: tf.gather(z, y, axis=1, batch_dims=1)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(f(model(x)))
        g = tape.gradient(value, x)
        shares.append(1.0 if g is None else (g.numpy() == 0).all(axis=(1, 2, 3)).mean())
    return shares
""",
        "any pixel for every": """
def gone(model, x, y):
    ok = correct(model, x, y)
    x, y, shares = tf.constant(x[ok]), y[ok], []
    for f in (lambda z: losses.cross_entropy(z, y), lambda z: tf.gather(z, y, axis=1, batch_dims=1)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(f(model(x)))
        g = tape.gradient(value, x)
        shares.append(0.0 if g is None else (g.numpy() != 0).any(axis=(1, 2, 3)).mean())
    return shares
""",
        "the loss twice": """
def gone(model, x, y):
    ok = correct(model, x, y)
    x, y = tf.constant(x[ok]), y[ok]
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(losses.cross_entropy(model(x), y))
    g = tape.gradient(value, x)
    share = 1.0 if g is None else (g.numpy() == 0).all(axis=(1, 2, 3)).mean()
    return share, share
""",
        "all images or none": """
def gone(model, x, y):
    ok = correct(model, x, y)
    x, y, shares = tf.constant(x[ok]), y[ok], []
    for f in (lambda z: losses.cross_entropy(z, y), lambda z: tf.gather(z, y, axis=1, batch_dims=1)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(f(model(x)))
        g = tape.gradient(value, x)
        shares.append(float(g is None or not g.numpy().any()))
    return shares
""",
    },
    "13.4": {
        "plain PGD": """
def strongest(model, x, y, eps):
    return advlib.pgd(model, x, y, eps=eps, steps=40)
""",
        "margin loss only": """
def strongest(model, x, y, eps):
    return advlib.pgd(model, x, y, eps=eps, steps=40, loss="margin")
""",
        "the last attack counts": """
def strongest(model, x, y, eps):
    for attack in (partial(attacks.square, steps=300), partial(advlib.pgd, loss="margin")):
        z = attack(model, x, y, eps=eps)
    return z
""",
        "the search alone": """
def strongest(model, x, y, eps):
    return attacks.square(model, x, y, eps=eps, steps=300)
""",
        "too short a search": """
def strongest(model, x, y, eps):
    return attacks.square(model, x, y, eps=eps, steps=5)
""",
        "leaves the ball": """
def strongest(model, x, y, eps):
    z = advlib.pgd(model, x, y, eps=eps, loss="margin")
    return attacks.square(model, z, y, eps=eps, steps=300)
""",
        "random noise": """
def strongest(model, x, y, eps):
    from advlib import noise

    return noise.best_of(model, x, y, eps=eps, draws=100, kind="signs")
""",
    },
    "13.5": {
        "high claims signed": """
sign = [letter for letter in wall if wall[letter][2]["claim"] > 0.5]
hidden = ""
weak = ""
""",
        "low claim sent back": """
sign = [k for k in wall if 0.5 < wall[k][2]["claim"] <= min(pgd_left[k], wall[k][2]["Square"]) + 0.1]
hidden = [k for k in wall if pgd_left[k] > wall[k][2]["Square"] + 0.2]
weak = [k for k in wall if k not in sign and k not in hidden]
""",
        "only the line": """
sign = [k for k in wall if wall[k][2]["claim"] <= pgd_left[k] + 0.1]
hidden = ""
weak = [k for k in wall if k not in sign]
""",
        "weak and hidden in one": """
sign = [k for k in wall if wall[k][2]["claim"] <= min(pgd_left[k], wall[k][2]["Square"]) + 0.1]
hidden = [k for k in wall if k not in sign]
weak = ""
""",
        "no letters": """
sign = "XY"
hidden = "X"
weak = "Y"
""",
    },
}

OTHERWISE = {
    "13.2": """
def judged(y, said, classes, claimed, found):
    kept = sum(all(answers[i] == label for answers in said.values()) for i, label in enumerate(y))
    robust = 100 * kept / len(y)
    if len(found) > 0 or claimed - robust > 10:
        return robust, "send back"
    return robust, "sign"
""",
    "13.3": """
def gone(model, x, y):
    ok = [k for k in range(len(x)) if correct(model, x[k : k + 1], y[k : k + 1])[0]]
    dead = np.zeros(2)
    for k in ok:
        image = tf.Variable(x[k : k + 1])
        for place in (0, 1):
            with tf.GradientTape() as tape:
                z = model(tf.convert_to_tensor(image))[0]
                value = tf.nn.log_softmax(z)[y[k]] if place == 0 else z[y[k]]
            g = tape.gradient(value, image)
            dead[place] += g is None or float(tf.reduce_max(tf.abs(g))) == 0
    return tuple(dead / len(ok))
""",
    "13.4": """
def strongest(model, x, y, eps):
    # a random search written out: turn the sign of a few pixels, and keep what raises the margin; then a step of the gradient
    rng = np.random.default_rng(0)
    sign = rng.choice(np.float32([-1, 1]), x.shape)
    best = losses.margin(models.predict_logits(model, np.clip(x + np.float32(eps) * sign, 0, 1)), y).numpy()
    pixels = x[0].size
    for k in range(400):
        share = max(0.2 * (1 - k / 300), 1.5 / pixels)
        turned = np.where(rng.random(x.shape) < share, -sign, sign)
        margin = losses.margin(models.predict_logits(model, np.clip(x + np.float32(eps) * turned, 0, 1)), y).numpy()
        better = margin > best
        sign[better], best[better] = turned[better], margin[better]
    z = np.clip(x + np.float32(eps) * sign, 0, 1)
    step = advlib.fgsm(model, x, y, eps=eps)
    return np.where(correct(model, z, y)[:, None, None, None], step, z)
""",
}
