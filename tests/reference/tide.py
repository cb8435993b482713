"""TIDE's definitions (arXiv 2008.08115, sections 2.2 and 2.3), a detection at a time."""

from tests.reference.voc import _area

T_F, T_B = 0.5, 0.1


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def analyse(detections, ground_truth, classes, threshold_inclusive):
    """Kinds of all mistakes and what each kind costs.

    detections: dicts with image, score, label, box; ground_truth: for each image a list of dicts
    with label, box, ignored; threshold_inclusive: an IoU of T_F is a hit's. Returns (kinds of the
    detections, sets of missed (image, object), name -> cost).
    """

    def is_near(overlap):
        return overlap > T_F or (threshold_inclusive and overlap == T_F)

    ranking = sorted(range(len(detections)), key=lambda i: -detections[i]["score"])
    found, kinds, about, counted = set(), [None] * len(detections), {}, []
    for i in ranking:  # VOC's verdict
        d = detections[i]
        own = [
            (iou(d["box"], g["box"]), -j)
            for j, g in enumerate(ground_truth[d["image"]])
            if g["label"] == d["label"]
        ]
        best, j = max(own, default=(0, 0))
        key = (d["image"], -j)
        if is_near(best):
            if ground_truth[d["image"]][-j]["ignored"]:
                kinds[i] = "ignored"
                continue
            if key not in found:
                kinds[i] = "hit"
                found.add(key)
        counted.append(i)
    for i in counted:
        if kinds[i] == "hit":
            continue
        d = detections[i]
        objects = [
            (iou(d["box"], g["box"]), j, g["label"] == d["label"])
            for j, g in enumerate(ground_truth[d["image"]])
            if not g["ignored"]
        ]
        correct = max((o for o in objects if o[2]), key=lambda o: o[0], default=(0, None))
        incorrect = max((o for o in objects if not o[2]), key=lambda o: o[0], default=(0, None))
        if T_B <= correct[0] and not is_near(correct[0]):
            kinds[i], about[i] = "box", correct[1]
        elif incorrect[0] >= T_F:
            kinds[i], about[i] = "class", incorrect[1]
        elif is_near(correct[0]):
            kinds[i] = "duplicate"
        elif max(correct[0], incorrect[0]) <= T_B:
            kinds[i] = "background"
        else:
            kinds[i] = "both"
    covered = {(detections[i]["image"], j) for i, j in about.items()}
    missed = {
        (image, j)
        for image, objects in enumerate(ground_truth)
        for j, g in enumerate(objects)
        if not g["ignored"] and (image, j) not in found | covered
    }

    number = {c: 0 for c in classes}
    for objects in ground_truth:
        for g in objects:
            number[g["label"]] += not g["ignored"]

    def mean_ap(rows, number):
        """rows: (label, is a hit) in the order of the ranking."""
        aps = []
        for c in classes:
            if not any(g["label"] == c and not g["ignored"] for gs in ground_truth for g in gs):
                continue
            tp = fp = 0
            recall, precision = [], []
            for label, hit in rows:
                if label == c and number[c]:
                    tp, fp = tp + hit, fp + (not hit)
                    recall.append(tp / number[c])
                    precision.append(tp / (tp + fp))
            aps.append(_area(recall, precision) if number[c] else 0.0)
        return sum(aps) / len(aps) if aps else float("nan")

    def rows(change):
        changed = [change(i) for i in counted]
        return [row for row in changed if row is not None]

    def as_it_is(i):
        return detections[i]["label"], kinds[i] == "hit"

    before = mean_ap(rows(as_it_is), number)
    costs = {}
    for kind in ("both", "duplicate", "background"):  # suppressed
        without = rows(lambda i, kind=kind: None if kinds[i] == kind else as_it_is(i))
        costs[kind] = mean_ap(without, number) - before
    for kind in ("class", "box"):  # corrected, unless that makes a duplicate
        taken = set(found)

        def correct_it(i, kind=kind, taken=taken):
            if kinds[i] != kind:
                return as_it_is(i)
            key = detections[i]["image"], about[i]
            if key in taken:
                return None
            taken.add(key)
            return ground_truth[key[0]][key[1]]["label"], True

        costs[kind] = mean_ap(rows(correct_it), number) - before
    fewer = dict(number)
    for image, j in missed:
        fewer[ground_truth[image][j]["label"]] -= 1
    costs["missed"] = mean_ap(rows(as_it_is), fewer) - before
    return kinds, missed, costs
