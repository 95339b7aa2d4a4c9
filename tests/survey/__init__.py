"""What each server can do, and what the program says and does there: observed, recorded, held against the record."""
