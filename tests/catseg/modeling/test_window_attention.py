import pytest
import torch

from catseg.modeling.window_attention import attend, axis_segments, window_attention, window_layout


def test_a_shifted_window_cuts_an_axis_into_short_full_and_short_segments():
    assert [len(segment) for segment in axis_segments(24, 12, 6)] == [6, 12, 6]
    assert [len(segment) for segment in axis_segments(24, 12, 0)] == [12, 12]


def test_a_window_that_does_not_divide_the_axis_leaves_a_shorter_last_segment():
    assert [len(segment) for segment in axis_segments(10, 4, 0)] == [4, 4, 2]


def test_a_shift_of_a_whole_window_is_refused():
    with pytest.raises(ValueError, match=r"shift 4 is not in \[0, 4\)"):
        axis_segments(8, 4, 4)


@pytest.mark.parametrize("grid", [(24, 24), (7, 10), (5, 3)])
@pytest.mark.parametrize("shift", [0, 2])
def test_a_layout_holds_every_token_once(grid, shift):
    layout = window_layout(grid, 4, shift)
    assert torch.equal(layout.order.sort().values, torch.arange(grid[0] * grid[1]))
    assert torch.equal(layout.order[layout.position], torch.arange(grid[0] * grid[1]))
    assert sum(count * size for count, size in layout.groups) == grid[0] * grid[1]


def test_the_published_grid_has_nine_windows_in_three_groups():
    assert window_layout((24, 24), 12, 6).groups == ((1, 144), (4, 72), (4, 36))


@pytest.mark.parametrize("grid", [(6, 6), (5, 9)])
def test_tokens_attend_to_exactly_their_own_window(grid):
    """Against dense attention with a mask made from the segments of both axes."""
    layout, heads, channels = window_layout(grid, 4, 2), 2, 6
    tokens = torch.randn(3, grid[0] * grid[1], 3 * channels, dtype=torch.float64)
    rows = torch.cat([torch.full((len(s),), i) for i, s in enumerate(axis_segments(grid[0], 4, 2))])
    columns = torch.cat([torch.full((len(s),), i) for i, s in enumerate(axis_segments(grid[1], 4, 2))])
    region = (rows[:, None] * len(columns) + columns).flatten()
    queries, keys, values = tokens.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    scores = (queries @ keys.transpose(-1, -2)).masked_fill(region[:, None] != region, float("-inf"))
    expected = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
    attended = window_attention(*tokens[:, layout.order].chunk(3, dim=-1), layout.groups, heads, scale=1.0)
    attended = attended[:, layout.position]
    torch.testing.assert_close(attended, expected)


def test_attention_for_training_in_bf16_agrees_with_the_fused_one():
    queries, keys, values = (torch.randn(2, 2, 16, 8).bfloat16().requires_grad_() for _ in range(3))
    plain = attend(queries, keys, values)
    with torch.no_grad():
        fused = attend(queries, keys, values)
    torch.testing.assert_close(plain, fused, rtol=0.05, atol=0.05)
