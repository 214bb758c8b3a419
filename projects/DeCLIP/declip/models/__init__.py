"""The decoupled encoder: attention, towers, factory, what trains, weights, zero-shot classifier."""
