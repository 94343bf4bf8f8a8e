"""Training on a labelled source domain and adapting to an unlabelled target domain.

`config` holds the settings of a run, `adapter` the engine (setup, build, fit), `step` one iteration of the method with
its steps (a) and (b), `checkpoint` the state that a run resumes from, `feature_cache` what the frozen CLIP said,
`pseudo_labels` the class-wise selection for a second run.
"""
