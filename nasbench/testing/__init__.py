"""Contract suites: what every supernet, algorithm, predictor, exporter and store promises.

They are pytest classes that enroll whatever is registered. A plug-in passes them by a subclass
of a few lines; each module says how.
"""
