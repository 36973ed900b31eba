"""How good frozen embeddings are on tasks that nothing was trained for. Nothing here imports TensorFlow.

Reading order: `base` (what a task and its data are) -> `registry` and `datasets/` (which tasks there are) ->
`standardise`, `folds`, `perceptron`, `probes`, `bootstrap`, `labelled` (classification and regression) ->
`ranking`, `feature_map`, `factorisation`, `recommendation` -> `results` (what is kept) -> `significance`,
`report/` (what people read).
"""
