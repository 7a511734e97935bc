"""What changes the layers of a loaded model: adapters, freezing, fused projections, loss kernels, compiled graphs."""
