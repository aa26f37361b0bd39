"""The testing kit: any service or task, started on free ports in a few lines."""
