"""Our images run as nobody in particular, and know how they are."""

from contextlib import closing

import docker
import pytest

from tests.containers.engine import IMAGES, MARKS, image_of, require_images

pytestmark = MARKS


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_no_root_and_has_a_healthcheck(name: str):
    """Compose overrides neither the user nor, for feeds and lake, the check.

    And it declares no volume: an old compose would keep its content beyond the one it is given.
    """
    if image_of(name) != IMAGES[name]:
        pytest.skip("another's image stands in for ours")
    require_images(name)
    with closing(docker.from_env()) as engine:
        found = engine.images.get(IMAGES[name]).attrs["Config"]

    assert found["User"].isdigit()
    assert int(found["User"]) > 0
    assert found["Healthcheck"]["Test"]
    assert not found["Volumes"]
