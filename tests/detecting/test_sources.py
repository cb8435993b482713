"""Which files the arguments of detect.py name."""

from pathlib import Path

import pytest

from ssd_jax.detecting.sources import sources_in


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_folders_and_globs(tmp_path):
    touch(*(tmp_path / n for n in ("a/1.jpg", "a/deep/2.PNG", "a/notes.txt", "b/3.mp4", "b/4.avi")))
    out = tmp_path / "out"
    folder = sources_in([str(tmp_path / "a")], out)
    assert [str(s.name) for s in folder] == ["1.jpg", "deep/2.PNG"]
    found = sources_in([str(tmp_path / "**/*.P*G"), str(tmp_path / "b/*")], out)
    assert [s.path.name for s in found] == ["2.PNG", "3.mp4", "4.avi"]
    assert [s.is_video for s in found] == [False, True, True]
    assert [str(s.drawn_name) for s in found] == ["2.PNG", "3.mp4", "4.avi.mp4"]
    twice = sources_in([str(tmp_path / "a/1.jpg"), str(tmp_path / "a/*.jpg")], out)
    assert len(twice) == 1


def test_links_are_followed_and_what_the_system_hides_is_not(tmp_path):
    touch(tmp_path / "a/1.jpg", tmp_path / "a/._1.jpg", tmp_path / "elsewhere/2.jpg")
    (tmp_path / "a/x.png").mkdir()
    (tmp_path / "a/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a/round").symlink_to(tmp_path / "a")
    touch(tmp_path / "a/runs/one/deep/3.jpg", tmp_path / "a/.hidden/4.jpg")
    (tmp_path / "a/deepest").symlink_to(tmp_path / "a/runs/one/deep")
    (tmp_path / "a/runs/latest").symlink_to(tmp_path / "a/runs/one")
    (tmp_path / "a/twice").symlink_to(tmp_path / "elsewhere")
    found = sources_in([str(tmp_path / "a")], tmp_path / "out")
    assert [str(s.name) for s in found] == ["1.jpg", "linked/2.jpg", "runs/one/deep/3.jpg"]


def test_a_file_whose_name_has_a_glob_in_it(tmp_path):
    touch(tmp_path / "what[1].jpg")
    (found,) = sources_in([str(tmp_path / "what[1].jpg")], tmp_path / "out")
    assert found.path.name == "what[1].jpg"


def test_equal_names_are_told_apart_by_folder(tmp_path):
    touch(tmp_path / "x/1.jpg", tmp_path / "y/1.jpg")
    found = sources_in([str(tmp_path / "x"), str(tmp_path / "y")], tmp_path / "out")
    names = {source.name for source in found}
    assert names == {Path(*(tmp_path / d / "1.jpg").parts[1:]) for d in "xy"}


def test_a_format_that_is_read_but_not_written_is_drawn_as_jpeg(tmp_path):
    for name in ("1.unknown", "1.pgm", "1.PBM"):  # the last two have no colours
        touch(tmp_path / name)
        (found,) = sources_in([str(tmp_path / name)], tmp_path / "out")
        assert str(found.drawn_name) == f"{name}.jpg"


def test_missing_files_are_left_for_the_end_unless_all_are(tmp_path):
    touch(tmp_path / "1.jpg")
    names = [str(tmp_path / "1.jpg"), str(tmp_path / "none.jpg")]
    assert len(sources_in(names, tmp_path / "out")) == 2
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*none\.jpg"):
        sources_in(names[1:], tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        sources_in([str(tmp_path / "*.png")], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no picture or video"):
        sources_in([str(tmp_path / "empty")], tmp_path / "out")


def test_what_an_earlier_call_wrote_is_not_searched(tmp_path):
    touch(tmp_path / "1.jpg", tmp_path / "out/1.jpg", tmp_path / "output/2.jpg")
    found = sources_in([str(tmp_path)], tmp_path / "out")
    assert [str(source.name) for source in found] == ["1.jpg", "output/2.jpg"]


def test_globs_do_not_search_it_either(tmp_path):
    touch(tmp_path / "1.jpg", tmp_path / "out/1.jpg", tmp_path / "out/deep/2.jpg")
    found = sources_in([str(tmp_path / "**/*.jpg")], tmp_path / "out")
    assert [source.path for source in found] == [tmp_path / "1.jpg"]
    # Asked for by name they are taken, though from another call's folder.
    found = sources_in([str(tmp_path / "out/*.jpg")], tmp_path / "out/again")
    assert [source.path for source in found] == [tmp_path / "out/1.jpg"]
    with pytest.raises(ValueError, match="would be drawn over"):
        sources_in([str(tmp_path / "out/*.jpg")], tmp_path / "out")


def test_two_that_would_be_drawn_as_one_are_refused(tmp_path):
    touch(tmp_path / "v.avi", tmp_path / "v.avi.mp4", tmp_path / "x/1.jpg", tmp_path / "y/1.jpg")
    with pytest.raises(ValueError, match=r"v\.avi and .*v\.avi\.mp4 would both be drawn as .*mp4"):
        sources_in([str(tmp_path)], tmp_path.parent / "out")


def test_nothing_is_drawn_over(tmp_path):
    touch(tmp_path / "1.jpg")
    with pytest.raises(ValueError, match=r"1\.jpg would be drawn over: give another folder"):
        sources_in([str(tmp_path / "1.jpg")], tmp_path)
