import pytest

from d2host.engine.errors import DataError
from declip.data.class_lists import CLASS_LISTS, first_synonym, load_class_list


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("ade20k_150", 150, "wall", "flag"),
        ("coco_stuff_171", 171, "person", "wood"),
    ],
)
def test_shipped_lists_have_their_classes_in_label_order(name, count, first, last):
    classes = load_class_list(name)
    assert (len(classes), first_synonym(classes[0]), first_synonym(classes[-1])) == (count, first, last)


def test_every_shipped_list_states_its_source():
    for path in CLASS_LISTS.glob("*.txt"):
        assert path.read_text(encoding="utf-8").startswith("# "), path


def test_comments_and_blank_lines_are_skipped_and_synonyms_kept(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("# source\n\nsofa, couch\n lamp \n")
    assert load_class_list(path) == ["sofa, couch", "lamp"]
    assert first_synonym("sofa, couch") == "sofa"


@pytest.mark.parametrize(("text", "sentence"), [("# nothing\n", "names no class"), ("a\nb\na\n", "names a twice")])
def test_bad_lists_get_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "own.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"own\.txt {sentence}"):
        load_class_list(path)


def test_a_missing_list_names_those_there_are():
    with pytest.raises(DataError, match="ade20k_150"):
        load_class_list("ade20k_151")
