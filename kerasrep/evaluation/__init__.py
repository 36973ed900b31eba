"""How good frozen embeddings are on tasks that nothing was trained for. Nothing here imports TensorFlow.

Reading order: `base` (what a task and its data are) -> `registry` and `datasets/` (which tasks there are) ->
`probing/` (classification and regression) -> `recommendation/` -> `results` (what is kept) -> `significance`,
`report/` (what people read) -> `suite` (all of it, over tasks and representations).
"""
