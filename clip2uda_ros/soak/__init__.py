"""The node under load and fault: `python -m clip2uda_ros.soak`.

`plan` says when what goes wrong, `faults` what that is, `robot` plays the sensors, `node` holds the process under test,
`record` what was seen of it, `session` lets them meet, and `report` judges.
"""
