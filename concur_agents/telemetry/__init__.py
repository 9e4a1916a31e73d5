"""What a gate tells to the outside: metrics, traces, a live view, recordings. Nothing here is imported unless used."""
