"""The stages of a build, one file each: a stage takes the model so far and the job, and returns the next model.

A stage that the options do not ask for returns the model unchanged. `edgetl.pipeline.builder` lists them in order.
"""
