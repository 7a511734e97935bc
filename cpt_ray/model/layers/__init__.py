"""What changes the layers of a loaded model: adapters, fused projections, the kernels of the loss, compiled graphs."""
