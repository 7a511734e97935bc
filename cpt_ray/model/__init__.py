"""Model code shared by training and evaluation: loading, isolation, loss, parameter arithmetic, export."""
