"""One worker pool: tasks go to threads of this process (`base`) or to nodes of a Ray cluster (`on_ray`)."""
