import torch
import torch.nn.functional as F

from declip.models.patch_map import PatchMap
from declip.models.windows import WindowGrid


def test_the_mean_under_a_mask_is_that_of_the_enlarged_directions():
    torch.manual_seed(0)
    grid = WindowGrid.of((48, 64), window=32, stride=16, patch_size=8)
    patches = PatchMap(grid.lay_out(F.normalize(torch.randn(6, 5, 4, 4), dim=1)), grid)
    enlarged = patches.enlarge(patches.directions, (50, 70))
    mask = torch.rand(50, 70) > 0.6
    torch.testing.assert_close(patches.mean(mask), enlarged[:, mask].mean(dim=1))


def test_a_patch_is_most_like_itself():
    torch.manual_seed(0)
    grid = WindowGrid.of((32, 48), window=0, stride=1, patch_size=8)
    patches = PatchMap(F.normalize(torch.randn(16, 4, 6), dim=0), grid)
    own = patches.cosines(patches.directions[:, 2, 3][None])[0]
    assert own.argmax() == 2 * 6 + 3 and torch.isclose(own.max(), torch.tensor(1.0))
