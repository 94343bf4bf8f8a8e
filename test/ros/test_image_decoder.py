"""Encodings that our decoder does not know go to cv_bridge, and where that does not import it is said once."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import Image

from clip2uda_core.errors import DataError
from clip2uda_ros.image_decoder import decode_any_image

ROOT = Path(__file__).resolve().parents[2]
NV21 = Image(height=2, width=4, step=4, encoding="nv21", data=bytes(12))


def test_known_encodings_are_ours() -> None:
    """With a padded step, which cv_bridge takes for pixels."""
    message = Image(height=2, width=1, step=5, encoding="bgr8", data=bytes([1, 2, 3, 9, 9, 4, 5, 6, 9, 9]))
    np.testing.assert_array_equal(decode_any_image(message, "/image"), [[[3, 2, 1]], [[6, 5, 4]]])


def test_cv_bridge_takes_the_others() -> None:
    """What it makes of NV21 depends on its version."""
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed, or does not import")
    try:
        expected = cv_bridge.CvBridge().imgmsg_to_cv2(NV21, "rgb8")
    except Exception:
        with pytest.raises(DataError, match=r"/image: cv_bridge cannot decode encoding 'nv21'"):
            decode_any_image(NV21, "/image")
    else:
        np.testing.assert_array_equal(decode_any_image(NV21, "/image"), expected)


def test_a_cv_bridge_that_does_not_import_is_told_once_and_costs_the_image_alone(tmp_path: Path) -> None:
    """As one that was compiled for numpy 1 does."""
    (tmp_path / "cv_bridge.py").write_text("raise AttributeError('_ARRAY_API not found')\n")
    program = """
        import logging
        from sensor_msgs.msg import Image
        from clip2uda_core.errors import DataError
        from clip2uda_ros.image_decoder import decode_any_image

        logging.basicConfig(format="%(levelname)s %(message)s")
        for number in range(3):
            try:
                decode_any_image(Image(height=2, width=4, step=4, encoding="nv21", data=bytes(12)), "/image")
            except DataError as error:
                print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(tmp_path), str(ROOT)]}\n{textwrap.dedent(program)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.count("/image: unknown image encoding 'nv21', known are rgb8") == 3
    assert result.stderr.count("WARNING cv_bridge does not import (_ARRAY_API not found)") == 1
