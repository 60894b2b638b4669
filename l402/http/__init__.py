"""HTTP to others: bounded in time and size, whatever they do."""
