"""What scoring, searching and large models cost in time and memory; run each with `python -m studies.cost.NAME`."""
