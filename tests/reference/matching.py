"""Matching from a table of IoUs, one pair at a time."""


def greedy(overlaps, threshold):
    """Caffe's rule: overlaps[n][p] -> the ground truth of every prior, -1 for none."""
    num_truths, num_priors = len(overlaps), len(overlaps[0])
    truth_of_prior = [-1] * num_priors
    waiting = set(range(num_truths))
    while waiting:
        best, best_pair = 1e-6, None
        for p in range(num_priors):
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
    return _take_the_rest(overlaps, truth_of_prior, threshold)


def argmax(overlaps, threshold):
    """ssd.pytorch's rule: every ground truth forces its best prior, the last one wins."""
    num_truths, num_priors = len(overlaps), len(overlaps[0])
    truth_of_prior = [-1] * num_priors
    for n in range(num_truths):
        best, best_prior = 0.0, None
        for p in range(num_priors):
            if overlaps[n][p] > best:
                best, best_prior = overlaps[n][p], p
        if best_prior is not None:
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
