"""Matching, mining and NMS in PyTorch as ssd.pytorch does them: loops over images and classes.

Written for these benchmarks from the description of what that program does: each ground truth takes
the prior it overlaps most, the last of several; the other priors theirs at an IoU of .5; negatives
ranked by two sorts; one box at a time suppresses the rest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

VARIANCES = (0.1, 0.2)


def to_corners(boxes: Tensor) -> Tensor:
    """Corner form of (cx, cy, w, h)."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [N, M] of corner boxes [N, 4] and [M, 4]."""
    low = torch.max(a[:, None, :2], b[None, :, :2])
    high = torch.min(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(dim=2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(dim=1) for x in (a, b))
    return both / (area_a[:, None] + area_b[None, :] - both)


def match(truths: Tensor, labels: Tensor, priors: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (offsets [P, 4], classes [P]) of one image."""
    overlaps = iou(truths, to_corners(priors))
    best_prior = overlaps.max(dim=1).indices
    best_overlap, best_truth = overlaps.max(dim=0)
    best_overlap.index_fill_(0, best_prior, 2.0)
    for truth in range(len(best_prior)):
        best_truth[best_prior[truth]] = truth
    matched = truths[best_truth]
    classes = labels[best_truth].clone()
    classes[best_overlap < 0.5] = 0
    centre = ((matched[:, :2] + matched[:, 2:]) / 2 - priors[:, :2]) / (
        VARIANCES[0] * priors[:, 2:]
    )
    size = torch.log((matched[:, 2:] - matched[:, :2]) / priors[:, 2:]) / VARIANCES[1]
    return torch.cat([centre, size], dim=1), classes


def multibox_loss(
    loc: Tensor, conf: Tensor, truths: list[Tensor], labels: list[Tensor], priors: Tensor
) -> Tensor:
    """The loss of a batch: loc [B, P, 4], conf [B, P, C], ground truth a tensor an image."""
    with torch.no_grad():
        loc_targets = torch.empty_like(loc)
        classes = torch.empty(loc.shape[:2], dtype=torch.int64, device=loc.device)
        for image in range(len(loc)):
            loc_targets[image], classes[image] = match(truths[image], labels[image], priors)
    positive = classes > 0
    mask = positive.unsqueeze(2).expand_as(loc)
    loc_loss = F.smooth_l1_loss(
        loc[mask].view(-1, 4), loc_targets[mask].view(-1, 4), reduction="sum"
    )

    flat = conf.reshape(-1, conf.shape[2])
    largest = flat.detach().max()  # of the whole batch
    log_sum = torch.log(torch.exp(flat - largest).sum(dim=1, keepdim=True)) + largest
    difficulty = (log_sum - flat.gather(1, classes.view(-1, 1))).view(len(loc), -1)
    difficulty = difficulty.masked_fill(positive, 0)
    order = difficulty.sort(dim=1, descending=True).indices
    rank = order.sort(dim=1).indices
    count = (3 * positive.sum(dim=1, keepdim=True)).clamp(max=positive.shape[1] - 1)
    chosen = positive | (rank < count)
    conf_loss = F.cross_entropy(conf[chosen], classes[chosen], reduction="sum")
    return (loc_loss + conf_loss) / positive.sum()


def nms(boxes: Tensor, scores: Tensor, threshold: float, top_k: int = 200) -> Tensor:
    """Indices of the boxes [N, 4] that stay among the best `top_k`, best first."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    order = scores.sort().indices[-top_k:]
    kept = []
    while order.numel() > 0:
        best = order[-1]
        kept.append(best)
        order = order[:-1]
        rest = boxes[order]
        low = torch.max(boxes[best, :2], rest[:, :2])
        high = torch.min(boxes[best, 2:], rest[:, 2:])
        both = (high - low).clamp(min=0).prod(dim=1)
        order = order[both / (area[order] - both + area[best]) <= threshold]
    return torch.stack(kept) if kept else order


def detect(loc: Tensor, conf: Tensor, priors: Tensor, top_k: int = 400) -> list[list[Tensor]]:
    """For each image and class but background the rows (score, box) that stay."""
    probabilities = F.softmax(conf, dim=2)
    found = []
    for image in range(len(loc)):
        centre = priors[:, :2] + loc[image, :, :2] * VARIANCES[0] * priors[:, 2:]
        size = priors[:, 2:] * torch.exp(loc[image, :, 2:] * VARIANCES[1])
        boxes = to_corners(torch.cat([centre, size], dim=1))
        rows = []
        for number in range(1, conf.shape[2]):
            above = probabilities[image, :, number] > 0.01
            scores = probabilities[image, above, number]
            kept = nms(boxes[above], scores, 0.45, top_k)
            rows.append(torch.cat([scores[kept, None], boxes[above][kept]], dim=1))
        found.append(rows)
    return found
