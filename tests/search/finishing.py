"""The order in which workers finish."""


def in_any_order(trials, rng):
    """Yield trials in an order that `rng` decides; more may be appended meanwhile."""
    waiting, num_taken = [], 0
    while waiting or num_taken < len(trials):
        waiting += trials[num_taken:]
        num_taken = len(trials)
        yield waiting.pop(rng.integers(len(waiting)))
