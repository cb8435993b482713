"""The MultiBox loss, one prior at a time (arXiv 1512.02325, section 2.2)."""

import math


def cross_entropy(logits, label):
    """-log softmax(logits)[label]."""
    largest = max(logits)
    log_sum = largest + math.log(sum(math.exp(x - largest) for x in logits))
    return log_sum - logits[label]


def mine(difficulty, candidates, count):
    """Indices of the `count` most difficult candidates; a tie goes to the lowest index."""
    ranked = sorted((p for p in range(len(difficulty)) if candidates[p]), key=lambda p: p)
    ranked.sort(key=lambda p: -difficulty[p])
    return set(ranked[:count])


def multibox_loss(loc, conf, loc_targets, label_targets, neg_pos_ratio=3.0, min_negatives=0):
    """(location, confidence) for nested lists [B][P][..]; label 0 negative, -1 ignored."""
    loc_sum = conf_sum = 0.0
    num_positives = num_mined = 0
    for b in range(len(conf)):
        labels = label_targets[b]
        positives = [p for p in range(len(labels)) if labels[p] > 0]
        num_positives += len(positives)
        for p in positives:
            conf_sum += cross_entropy(conf[b][p], labels[p])
            for predicted, wanted in zip(loc[b][p], loc_targets[b][p], strict=True):
                x = abs(predicted - wanted)
                loc_sum += 0.5 * x * x if x < 1 else x - 0.5
        difficulty = [cross_entropy(logits, 0) for logits in conf[b]]
        wanted = max(math.floor(neg_pos_ratio * len(positives)), min_negatives)
        mined = mine(difficulty, [label == 0 for label in labels], wanted)
        num_mined += len(mined)
        conf_sum += sum(difficulty[p] for p in mined)
    normalizer = max(1, num_positives)
    if min_negatives:
        normalizer = max(normalizer, num_mined / neg_pos_ratio if neg_pos_ratio else num_mined)
    return loc_sum / normalizer, conf_sum / normalizer
