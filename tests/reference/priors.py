"""SSD's priors, one box at a time (arXiv 1512.02325, section 2.2; Caffe's PriorBox layer)."""

import math


def prior_boxes(image_size, feature_maps, steps, min_sizes, max_sizes, aspect_ratios):
    """(cx, cy, w, h) of every prior relative to the image, unclipped, a list of tuples.

    image_size (height, width) and sizes in pixels; a level's step is (vertical, horizontal).
    """
    image_height, image_width = image_size
    boxes = []
    for level in range(len(feature_maps)):
        rows, columns = feature_maps[level]
        step_y, step_x = steps[level]
        smallest, largest = min_sizes[level], max_sizes[level]
        for i in range(rows):
            for j in range(columns):
                cx = (j + 0.5) * step_x / image_width
                cy = (i + 0.5) * step_y / image_height
                boxes.append((cx, cy, smallest / image_width, smallest / image_height))
                between = math.sqrt(smallest * largest)
                boxes.append((cx, cy, between / image_width, between / image_height))
                for ratio in aspect_ratios[level]:
                    for a in (ratio, 1 / ratio):
                        w = smallest * math.sqrt(a)
                        h = smallest / math.sqrt(a)
                        boxes.append((cx, cy, w / image_width, h / image_height))
    return boxes
