"""What `benchmarks/latency.py` measures."""
