"""Settings of glibc's allocator for training on a CPU. A process reads them only when it starts."""

VARIABLE = "GLIBC_TUNABLES"
RECYCLE_MEMORY = (
    # glibc gives every large buffer back to the system and faults it in again at the next step: 0.1 to 0.5 million page
    # faults per step at 135M parameters, a fifth of the time. The price is that a process keeps its peak.
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:glibc.malloc.top_pad=268435456"
)
