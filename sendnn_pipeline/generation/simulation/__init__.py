"""The scheduler without a model: scenarios are played, priced and drawn. No torch."""
