"""What changes the layers of a loaded model: adapters, freezing, fusing, loss kernels, compiled graphs; products on a CPU."""
