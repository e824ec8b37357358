"""Slide lists, and splits that do not leak."""

from collections import Counter
from pathlib import Path

import pytest

from wsiseg.data.slides import read_slides, write_slides
from wsiseg.errors import RecipeError, SplitError


def slide_list(folder: Path, text: str) -> Path:
    for name in ("a.svs", "b.svs", "c.svs", "a.geojson"):
        (folder / name).touch()
    path = folder / "slides.csv"
    path.write_text(text)
    return path


def test_columns_may_be_left_out(tmp_path: Path) -> None:
    rows = read_slides(slide_list(tmp_path, "slide\na.svs\nb.svs\n"))
    assert [(r.name, r.annotations, r.patient, r.split, r.mpp) for r in rows] == [
        ("a", None, "a", "train", None),
        ("b", None, "b", "train", None),
    ]


def test_all_columns_are_read(tmp_path: Path) -> None:
    text = "slide,annotations,patient,split,mpp,tags\na.svs,a.geojson,p1,test,0.25,pas; sclerosis\nb.svs,,p2,train,,\n"
    first, second = read_slides(slide_list(tmp_path, text))
    assert first.annotations == tmp_path / "a.geojson"
    assert (first.patient, first.split, first.mpp) == ("p1", "test", 0.25)
    assert (second.annotations, second.mpp) == (None, None)
    assert (first.tags, second.tags) == (("pas", "sclerosis"), ())
    write_slides(tmp_path / "copy.csv", (first, second))
    assert [entry.tags for entry in read_slides(tmp_path / "copy.csv")] == [first.tags, ()]


def test_one_patient_on_two_sides_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="'p1' is in train and in test"):
        read_slides(slide_list(tmp_path, "slide,patient,split\na.svs,p1,train\nb.svs,p1,test\n"))


def test_one_slide_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="listed twice"):
        read_slides(slide_list(tmp_path, "slide,patient,split\na.svs,p1,train\n./a.svs,p2,test\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,split\na.svs,training\n", "line 2: the split 'training'"),
        ("slide\nz.svs\n", "line 2: there is no slide"),
        ("slide,annotations\na.svs,z.geojson\n", "line 2: there are no annotations"),
        ("slide,mpp\na.svs,fine\n", "line 2: 'fine' is not a number"),
        ("slide,patient\n,p\n", "line 2: the slide is missing"),
        ("file\na.svs\n", "it needs `slide`"),
        ("slide,stain\na.svs,pas\n", "stain"),
        ("slide\n", "is empty"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_slides(slide_list(tmp_path, text))
    assert message in str(caught.value)


def test_the_kidney_split(kidney: Path) -> None:
    rows = read_slides(Path(__file__).parents[2] / "pipelines" / "kidney-glomeruli.csv", kidney)
    assert Counter(r.split for r in rows) == {"train": 36, "validation": 4, "test": 21}
    assert len({r.patient for r in rows}) == 61


def test_lists_of_version_0_1_name_the_region_of_interest_within(tmp_path: Path) -> None:
    for name in ("a.svs", "a.geojson"):
        (tmp_path / name).write_text("")
    (tmp_path / "slides.csv").write_text("slide,within\na.svs,a.geojson\n")
    assert read_slides(tmp_path / "slides.csv")[0].roi == tmp_path / "a.geojson"
    (tmp_path / "slides.csv").write_text("slide,within,roi\na.svs,a.geojson,a.geojson\n")
    with pytest.raises(RecipeError, match="keep roi"):
        read_slides(tmp_path / "slides.csv")
    (tmp_path / "slides.csv").write_text("slide,roi\na.svs,gone.geojson\n")
    with pytest.raises(RecipeError, match="no annotations at"):
        read_slides(tmp_path / "slides.csv")
