"""What training and evaluation share: loading, isolation, loss, parameter arithmetic, export."""
