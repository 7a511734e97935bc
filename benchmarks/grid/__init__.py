"""Domain filters and grids: speed of filters, of plans, of reports, of studies with nothing left to do."""
