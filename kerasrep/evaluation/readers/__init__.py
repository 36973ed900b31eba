"""What all data sets are read with: items and their paths, split lists, tables of plays, folder layouts."""
