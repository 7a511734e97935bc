"""Domain filters and grids: speed of filters, of plans, of studies with nothing left to do."""
