"""TPU slices: queued resources and nodes of the Cloud TPU API. The modules have the same names as those for Compute Engine."""
