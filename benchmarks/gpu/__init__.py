"""What a GPU host measures, packed for one without network: `make gpu-bundle` here, `run.sh` there."""
