"""The measured comparisons; `make bench` runs them side by side and writes `RESULTS.md`."""
