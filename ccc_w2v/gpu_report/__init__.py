"""What `ccc-w2v gpu-report` measures and writes: everything that a GPU has to show, in one go.

`sections.py` lists the sections; each is a function from `ReportSettings` to a `ReportSection` of tables and remarks. `report.py`
runs them, keeps each result as soon as it is there, and writes them as one JSON and one Markdown.
"""
