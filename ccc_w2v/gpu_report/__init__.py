"""What `ccc-w2v gpu-report` measures and writes: everything that a GPU has to show, in one go.

`report.py` lists the sections, runs them, keeps each result as soon as it is there, and writes them as one JSON and one
Markdown. A section is a function from `ReportSettings` to a `ReportSection` of rows and remarks.
"""
