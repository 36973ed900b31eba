"""What every report is made of: figures, pages, tables, and the wording of numbers."""
