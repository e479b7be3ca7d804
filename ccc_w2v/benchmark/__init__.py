"""What `ccc-w2v benchmark` measures, one module for each subcommand: `add_arguments(parser)` and `run(args) -> dict`.

Speed depends on the machine, so that no test asserts on it: everything here is measured interleaved and told as medians
and ratios; docs/benchmarks.md keeps results with their command and machine.
"""
