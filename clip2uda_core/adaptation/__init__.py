"""Training on a labelled source domain and adapting to an unlabelled target domain.

`config` holds the settings of a run, `adapter` the engine (setup, build, fit), `step` one iteration of the method with
its steps (a) and (b), `domains` the frames that a run trains on, `checkpoint` the state that it resumes from (with the
generators of `rng`), `feature_cache` what the frozen CLIP said, `pseudo_labels` what a teacher says of the target for a
second run, `statistics` batch norm of the target, `distributed` several processes, `log` the line an iteration.
"""
