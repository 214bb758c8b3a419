"""Label maps of MATLAB, whole, damaged, and of another kind."""

import io

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from d2host.engine.errors import DataError
from declip.data.preparation.matlab import read_matrix

LABELS = np.arange(48).reshape(6, 8)


@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_matrix_of_any_number_type_is_read_as_scipy_wrote_it(tmp_path, kind, compressed):
    path = tmp_path / "a.mat"
    others = {"a": 1, "text": "x", "map": {"b": 2}, "cell": np.array([[1, "c"]], object)}
    savemat(path, {**others, "LabelMap": LABELS.astype(kind)}, do_compression=compressed)
    matrix = read_matrix(path, "LabelMap")
    assert matrix.dtype == np.int64 and (matrix == LABELS).all()


ODD_MATRICES = {
    "a text": "text", "a map": {"a": 1}, "a cell": np.array([[1, "b"]], object), "fractions": np.array([[1.5]]),
    "NaN": np.array([[np.nan]]), "infinite": np.array([[np.inf]]), "complex": np.array([[1j]]),
    "three axes": np.ones((2, 2, 2)), "sparse": None, "huge numbers": np.array([[1e300]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_MATRICES)
def test_what_is_no_matrix_of_whole_numbers_is_refused(tmp_path, kind):
    savemat(tmp_path / "a.mat", {"LabelMap": csc_matrix(LABELS) if kind == "sparse" else ODD_MATRICES[kind]})
    with pytest.raises(DataError, match=r"label file .*a\.mat"):
        read_matrix(tmp_path / "a.mat", "LabelMap")


def test_files_of_other_versions_and_variables_are_told_apart(tmp_path):
    path = tmp_path / "a.mat"
    for content, sentence in (
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(500), "is of MATLAB 7.3: save it again as version 7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "is no MATLAB file of version 5 to 7"),
        (b"", "is no MATLAB file"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            read_matrix(path, "LabelMap")
    savemat(path, {"Labels": LABELS})
    with pytest.raises(DataError, match="has no LabelMap"):
        read_matrix(path, "LabelMap")
    savemat(path, {"LabelMap": np.zeros((9000, 9000), np.uint8)}, do_compression=True)
    with pytest.raises(DataError, match="compressed data is cut off or too large"):
        read_matrix(path, "LabelMap")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_spoilt_matlab_file_is_read_or_one_sentence(tmp_path, spoilt, compressed):
    content = io.BytesIO()
    savemat(content, {"LabelMap": LABELS.astype(np.uint16)}, do_compression=compressed)
    for data in spoilt(content.getvalue(), 300):
        (tmp_path / "a.mat").write_bytes(data)
        try:
            read_matrix(tmp_path / "a.mat", "LabelMap")
        except DataError as error:
            assert "a.mat" in str(error)
