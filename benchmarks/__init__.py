"""What a paywall costs, measured as ratios within one run: ``make bench``."""
