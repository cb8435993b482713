"""Matching from a table of IoUs, one pair at a time.

The objects `ignored` take their best priors after all others took theirs.
"""


def greedy(overlaps, threshold, ignored=()):
    """Caffe's rule: overlaps[n][p] -> the object of every prior, -1 for none."""
    truth_of_prior = [-1] * len(overlaps[0])
    _take_greedily(overlaps, truth_of_prior, set(range(len(overlaps))) - set(ignored))
    _take_greedily(overlaps, truth_of_prior, set(ignored))
    return _take_the_rest(overlaps, truth_of_prior, threshold)


def _take_greedily(overlaps, truth_of_prior, waiting):
    while waiting:
        best, best_pair = 1e-6, None
        for p in range(len(truth_of_prior)):
            if truth_of_prior[p] >= 0:
                continue
            for n in sorted(waiting):
                if overlaps[n][p] > best:
                    best, best_pair = overlaps[n][p], (n, p)
        if best_pair is None:
            break
        n, p = best_pair
        truth_of_prior[p] = n
        waiting.remove(n)


def argmax(overlaps, threshold, ignored=()):
    """ssd.pytorch's rule: every object forces its best prior, the last one wins."""
    num_truths, num_priors = len(overlaps), len(overlaps[0])
    truth_of_prior = [-1] * num_priors
    for n in range(num_truths):
        best, best_prior = 0.0, None
        for p in range(num_priors):
            if overlaps[n][p] > best:
                best, best_prior = overlaps[n][p], p
        if best_prior is None:
            continue
        holder = truth_of_prior[best_prior]
        if n not in ignored or holder < 0 or holder in ignored:
            truth_of_prior[best_prior] = n
    return _take_the_rest(overlaps, truth_of_prior, threshold)


def _take_the_rest(overlaps, truth_of_prior, threshold):
    result = list(truth_of_prior)
    for p in range(len(result)):
        if result[p] >= 0:
            continue
        best, best_truth = -1.0, None
        for n in range(len(overlaps)):
            if overlaps[n][p] > best:
                best, best_truth = overlaps[n][p], n
        if best >= threshold:
            result[p] = best_truth
    return result
