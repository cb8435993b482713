"""Pictures, videos and a webcam through all stages, with an engine whose answers are known."""

import csv
import io
import json
import os
import re
import struct
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd_jax.detecting.records import Records
from ssd_jax.detecting.run import (
    Work,
    class_folder_name,
    detect_pictures,
    detect_video,
    pixels_of,
)
from ssd_jax.detecting.sources import Source, sources_in
from ssd_jax.detecting.video import Frame, VideoReader, VideoWriter
from tests.colors import ColorEngine, color_detector, picture, save

RED = (8, 4, 40, 30)


def work_for(out, records, *, crop=False, draw=True, **fields):
    return Work(color_detector(**fields), 0.5, records, out, draw, crop)


def write_video(path, frames, rate, code="mp4v"):
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, size)
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def moving(count):
    return [picture((4 * i, 8, 4 * i + 24, 40), height=64, width=160) for i in range(count)]


def read_records(out):
    images = json.loads((out / "detections.json").read_text())["images"]
    rows = list(csv.DictReader(io.StringIO((out / "detections.csv").read_text())))
    return images, rows


def test_pictures_are_drawn_listed_and_cropped(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    array = picture(RED, (50, 40, 60, 46))
    for name in ("1.png", "2.png", "deep/3.png"):
        save(folder / name, array)
    save(folder / "4.png", picture())
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:60])  # broken
    advanced = []
    with Records(out) as records:
        sources = sources_in([str(folder), str(tmp_path / "none.jpg")], out)
        faults = detect_pictures(
            work_for(out, records, crop=True), sources, lambda: advanced.append(1)
        )
    assert len(advanced) == 5
    assert sorted(type(fault).__name__ for fault in faults) == ["FileNotFoundError", "ValueError"]
    assert any("2.png" in str(fault) for fault in faults)
    images, rows = read_records(out)
    assert [Path(image["file"]).name for image in images] == ["1.png", "4.png", "3.png"]
    assert images[0]["detections"] == [
        {"box": list(RED), "class": "red", "score": 0.9},
        {"box": [50, 40, 60, 46], "class": "green", "score": 0.6},
    ]
    assert images[1] == {**images[1], "detections": [], "height": 48, "width": 64}
    assert [row["class"] for row in rows] == ["red", "green"] * 2
    assert [float(rows[0][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")] == list(RED)
    assert (out / "deep/3.png").is_file()
    assert not (out / "2.png").exists()
    crop = cv2.imread(str(out / "crops/red/deep/3.png_0.jpg"))
    assert crop.shape == (26, 32, 3)
    assert crop[..., 2].mean() > 200


def test_a_picture_that_its_format_cannot_have_costs_the_others_nothing(tmp_path):
    wide = save(tmp_path / "wide.png", picture(width=17000)).rename(tmp_path / "a.webp")
    whole = save(tmp_path / "b.png", picture(RED))
    out = tmp_path / "out"
    with Records(out) as records:
        sources = sources_in([str(wide), str(whole)], out)
        (fault,) = detect_pictures(work_for(out, records), sources, lambda: None)
    assert re.search(r"a\.webp: an image of 17000 x 48 cannot be of this format", str(fault))
    assert (out / "b.png").is_file()


def test_a_video_keeps_frame_rate_count_and_size(tmp_path):
    out = tmp_path / "out"
    path = write_video(tmp_path / "clip.mp4", moving(25), 12.5)
    (source,) = sources_in([str(path)], out)
    with Records(out) as records, VideoReader(path) as video:
        assert (video.rate, video.count) == (12.5, 25)
        detect_video(work_for(out, records), video, source, lambda: None)
    images, rows = read_records(out)
    assert [image["frame"] for image in images] == list(range(25))
    assert [image["seconds"] for image in images] == [round(i / 12.5, 4) for i in range(25)]
    for number, image in enumerate(images):
        (found,) = image["detections"]
        expected = (4 * number, 8, 4 * number + 24, 40)
        np.testing.assert_allclose(found["box"], expected, atol=3)  # the canvas is 64 wide
    assert len(rows) == 25
    drawn = cv2.VideoCapture(str(out / "clip.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == 12.5
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 25
    assert drawn.read()[1].shape == (64, 160, 3)
    drawn.release()


UNEVEN = [*range(0, 1000, 40), *range(1000, 8000, 250)]
"""Milliseconds of the frames of a video of a variable rate: 25 a second, later 4."""


def write_matroska(path, frames, milliseconds, rate, seconds=None):
    """A video of these times that states a duration and a rate, but no count."""

    def element(code, *contents):
        content = b"".join(contents)
        return bytes.fromhex(code) + (len(content) | 1 << 56).to_bytes(8, "big") + content

    height, width = (side.to_bytes(2, "big") for side in frames[0].shape[:2])
    jpegs = [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames]
    blocks = [
        element("a3", b"\x81", time.to_bytes(2, "big"), b"\x80", jpeg)
        for time, jpeg in zip(milliseconds, jpegs, strict=True)
    ]
    track = element(
        *("ae", element("d7", b"\1"), element("73c5", b"\1"), element("83", b"\1")),
        *(element("86", b"V_MJPEG"), element("e0", element("b0", width), element("ba", height))),
        element("23e383", round(1e9 / rate).to_bytes(4, "big")),
    )
    end = milliseconds[-1] + 1000 / rate if seconds is None else 1000 * seconds
    duration = element("4489", struct.pack(">d", end))
    path.write_bytes(
        element("1a45dfa3", element("4282", b"matroska"), element("4287", b"\2"))
        + element(
            "18538067",
            element("1549a966", element("2ad7b1", (10**6).to_bytes(4, "big")), duration),
            element("1654ae6b", track),
            element("1f43b675", element("e7", b"\0"), *blocks),
        )
    )
    return path


def test_a_video_of_a_variable_frame_rate_keeps_its_times(tmp_path):
    out = tmp_path / "out"
    frames = [picture((i, 8, i + 24, 40), height=64, width=160) for i in range(len(UNEVEN))]
    path = write_matroska(tmp_path / "clip.mkv", frames, UNEVEN, rate=25)
    with Records(out) as records, VideoReader(path) as video:
        assert video.count > 2 * len(UNEVEN)  # a guess: nothing to measure frames by
        detect_video(work_for(out, records), video, Source(path, Path(path.name)), lambda: None)
    images, _ = read_records(out)
    assert [image["seconds"] for image in images] == [time / 1000 for time in UNEVEN]
    drawn = cv2.VideoCapture(str(out / "clip.mkv.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) / 25 == pytest.approx(7.79, abs=0.04)
    drawn.release()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with Records(out) as records, VideoReader(path) as video:
        with pytest.raises(ValueError, match=r"clip\.mkv breaks off after \d\.\d of 7\.8 seconds"):
            detect_video(work_for(out, records), video, Source(path, path), lambda: None)


def test_a_time_past_the_end_that_a_video_states_is_not_believed(tmp_path):
    times = [*range(0, 400, 40), *range(60_000, 60_400, 40)]  # 10 frames each; the clock jumps
    frames = [picture((i, 8, i + 24, 40), height=64, width=160) for i in range(len(times))]
    path = write_matroska(tmp_path / "clip.mkv", frames, times, rate=25, seconds=0.8)
    with VideoReader(path) as video:
        seconds = [frame.seconds for frame in video]
    np.testing.assert_allclose(seconds, np.arange(20) / 25, atol=1e-6)


def test_of_a_pause_a_minute_is_drawn_and_frames_without_a_place_are_counted(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 2.0) as writer:
        for number, seconds in enumerate((0.0, 0.1, 0.5, 5000.0, 5000.5)):
            writer.write(Frame(picture((8, 8, 32, 40)), number, seconds))
    assert writer.left_out == 1
    with VideoReader(path) as video:
        assert len(list(video)) == 2 + 120 + 2

    with VideoWriter(path, 10.0) as writer:
        for number, seconds in enumerate((0.0, 0.01, 0.5, 0.51)):
            writer.write(Frame(picture((8, 8, 32, 40)), number, seconds))
        assert writer.left_out == 0  # the second stands until the third
    assert writer.left_out == 1  # the last one has no place any more


def test_a_part_that_was_cut_out_of_a_longer_video_is_whole(tmp_path):
    times = range(5000, 6000, 40)
    frames = [picture((i, 8, i + 24, 40), height=64, width=160) for i in range(len(times))]
    path = write_matroska(tmp_path / "part.mkv", frames, times, rate=25, seconds=6)
    with Records(tmp_path / "out") as records, VideoReader(path) as video:
        source = Source(path, Path(path.name))
        assert detect_video(work_for(tmp_path / "out", records), video, source, lambda: None) == 0
    assert video.begins == pytest.approx(5)
    images, _ = read_records(tmp_path / "out")
    assert [image["seconds"] for image in images] == [(time - 5000) / 1000 for time in times]


@pytest.mark.parametrize("rate", [23.976024, 65.537, 119.853, 239.76, 700.123])
def test_a_video_of_any_rate_is_written(tmp_path, rate):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, rate) as writer:
        for number, frame in enumerate(moving(20)):
            writer.write(Frame(frame, number, number / rate))
    with VideoReader(path) as video:
        assert video.rate == pytest.approx(rate, abs=0.05)
        assert len(list(video)) == 20


def test_a_video_that_breaks_off_or_is_none_is_named(tmp_path):
    out = tmp_path / "out"
    path = write_video(tmp_path / "clip.avi", moving(40), 10, "MJPG")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with Records(out) as records, VideoReader(path) as video:
        with pytest.raises(ValueError, match=r"clip\.avi breaks off after \d\.\d of 4\.0 seconds"):
            detect_video(work_for(out, records), video, Source(path, path), lambda: None)
    assert len(read_records(out)[0]) > 5  # what there was is kept
    path.write_bytes(b"no video")
    with pytest.raises(OSError, match=r"video .*clip\.avi cannot be opened"):
        VideoReader(path)
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        VideoReader(tmp_path / "none.mp4")


class Camera:
    """A webcam of 10 frames a second that says nothing of its rate, in place of OpenCV's."""

    def __init__(self, number):
        self.number, self._taken = number, 0

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return self.number == 0

    def get(self, _):
        return 0.0

    def read(self):
        time.sleep(0.1)
        self._taken += 1
        return True, np.ascontiguousarray(picture((2 * self._taken, 4, 60, 30))[..., ::-1])

    def release(self):
        self.number = None


def test_a_webcam_is_seen_as_fast_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with Records(tmp_path) as records, VideoReader(0, seconds=1.5) as video:
        name = Path("webcam0.mp4")
        work = work_for(tmp_path, records, batch_size=1)
        detect_video(work, video, Source(name, name), lambda: None)
    monkeypatch.undo()
    images, _ = read_records(tmp_path)
    assert 5 <= len(images) <= 14
    assert images[-1]["seconds"] < 1.5
    assert all(image["detections"] for image in images)
    written = cv2.VideoCapture(str(tmp_path / "webcam0.mp4"))
    # 30 frames a second, so that each of the camera's is there about three times.
    shown = written.get(cv2.CAP_PROP_FRAME_COUNT) / written.get(cv2.CAP_PROP_FPS)
    written.release()
    assert abs(shown - images[-1]["seconds"] - 1 / 30) < 0.02
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(OSError, match="webcam 3 cannot be opened"):
        VideoReader(3)


def test_stages_work_at_the_same_time(tmp_path, monkeypatch):
    """Frames are decoded while the engine is at those before."""
    main = threading.current_thread()
    call, busy, decoded_meanwhile = ColorEngine.__call__, threading.Event(), []

    def detect(engine, canvases, sizes):
        busy.set()
        found = call(engine, canvases, sizes)
        busy.clear()
        return found

    class Slow(VideoReader):
        def __init__(self):
            self.rate, self.count, self.duration, self.begins = 10.0, 24, 2.4, 0.0

        def __iter__(self):
            for number, frame in enumerate(moving(24)):
                assert threading.current_thread() is main
                time.sleep(0.05)
                decoded_meanwhile.append(busy.is_set())
                yield Frame(frame, number, number / 10)

    monkeypatch.setattr(ColorEngine, "__call__", detect)
    with Records(tmp_path) as records:
        work = work_for(tmp_path, records, batch_size=4, seconds=0.2, draw=False)
        detect_video(work, Slow(), Source(Path("a.mp4"), Path("a.mp4")), lambda: None)
    assert any(decoded_meanwhile)


def test_records_are_whole_after_a_break(tmp_path):
    detector = color_detector()
    with pytest.raises(KeyboardInterrupt), Records(tmp_path) as records:
        records.add("a,b.jpg", detector(picture(RED)))
        raise KeyboardInterrupt
    images, rows = read_records(tmp_path)
    assert images[0]["file"] == rows[0]["file"] == "a,b.jpg"


def test_a_break_while_a_picture_is_written_leaves_the_others(tmp_path, monkeypatch):
    found = color_detector()(picture(RED))
    with pytest.raises(KeyboardInterrupt), Records(tmp_path) as records:
        records.add("a.jpg", found)
        monkeypatch.setattr(json, "dumps", interrupted)
        records.add("b.jpg", found)
    monkeypatch.undo()
    images, _ = read_records(tmp_path)
    assert [image["file"] for image in images] == ["a.jpg"]


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_a_file_name_that_is_no_utf_8_is_escaped(tmp_path):
    result = color_detector()(picture(RED))
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.jpg")
    with Records(tmp_path) as records:
        records.add(name, result)
    images, rows = read_records(tmp_path)
    assert os.fsencode(images[0]["file"]) == b"caf\xe9 \xc3\xa9.jpg"
    assert rows[0]["file"] == "caf\\udce9 é.jpg"


def test_pictures_and_videos_may_have_names_that_are_no_utf_8(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    drawn, filmed = (os.fsdecode(b"caf\xe9" + suffix) for suffix in (b".png", b".mp4"))
    save(folder / "a.png", picture(RED)).rename(folder / drawn)
    write_video(folder / "a.mp4", moving(3), 10).rename(folder / filmed)
    video, still = sources_in([str(folder)], out)
    with Records(out) as records:
        work = work_for(out, records)
        assert detect_pictures(work, [still], lambda: None) == []
        with VideoReader(video.path) as reader:
            detect_video(work, reader, video, lambda: None)
    assert records.images == 4
    assert {path.name for path in out.iterdir()} >= {drawn, filmed}
    assert (out / filmed).stat().st_size > 500


def test_a_name_too_long_to_add_to_costs_the_others_nothing(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    long = 250 * "a"
    for name in ("0.png", f"{long}.png", "b.png"):
        save(folder / "x.png", picture(RED)).rename(folder / name)
    with Records(out) as records:
        work = work_for(out, records, crop=True)
        (fault,) = detect_pictures(work, sources_in([str(folder)], out), lambda: None)
    assert long in str(fault)
    assert records.images == 2


def test_crops_of_classes_are_never_in_one_folder():
    names = [
        "car",
        "C++",
        "C#",
        "30 km/h",
        "30_km_h",
        "<",
        ">",
        "..",
        "%2F",
        "/",
        "Bäume 木",
        "!22",
        "™",
    ]
    folders = [class_folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert [folders[0], folders[4], folders[10]] == ["car", "30_km_h", "Bäume 木"]
    assert not any("/" in folder or folder in (".", "..") for folder in folders)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.5, 1.5, 3.5, 4.0), (1, 4, 0, 4)),
        ((-3.0, -1.0, 99.0, 99.0), (0, 10, 0, 20)),
        ((5.0, 5.0, 5.0, 5.0), (5, 6, 5, 6)),
        ((20.0, 10.0, 20.0, 10.0), (9, 10, 19, 20)),
    ],
)
def test_crops_have_every_pixel_that_a_box_touches(box, expected):
    rows, columns = pixels_of(np.array(box, np.float32), (10, 20))
    assert (rows.start, rows.stop, columns.start, columns.stop) == expected
