"""Lightning nodes: who issues the invoices that are sold."""
