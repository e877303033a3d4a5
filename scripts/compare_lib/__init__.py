"""scripts/compare's parts."""
