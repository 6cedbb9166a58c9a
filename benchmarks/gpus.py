"""What GPUs can do at best, by their makers' words."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """Dense bfloat16 products with float32 sums, in FLOP/s, and memory in bytes/s."""

    name: str
    """Part of what CUDA calls it."""
    flops: float
    bandwidth: float
    source: str


GPUS = (
    Gpu("H100 80GB HBM3", 989.4e12, 3.35e12, "NVIDIA H100 Tensor Core GPU datasheet, SXM5 (1,979 with sparsity)"),
    Gpu("H100 PCIe", 756e12, 2.0e12, "NVIDIA H100 Tensor Core GPU datasheet, PCIe (1,513 with sparsity)"),
    Gpu("H100 NVL", 835e12, 3.9e12, "NVIDIA H100 NVL datasheet (1,671 with sparsity)"),
    Gpu("H200", 989.4e12, 4.8e12, "NVIDIA H200 Tensor Core GPU datasheet, SXM (1,979 with sparsity)"),
    Gpu("B200", 2250e12, 8.0e12, "NVIDIA HGX B200 datasheet, a GPU (4,500 with sparsity)"),
    Gpu("A100-SXM4-80GB", 312e12, 2.039e12, "NVIDIA A100 Tensor Core GPU datasheet, 80GB SXM"),
    Gpu("A100 80GB PCIe", 312e12, 1.935e12, "NVIDIA A100 Tensor Core GPU datasheet, 80GB PCIe"),
    Gpu("A100-SXM4-40GB", 312e12, 1.555e12, "NVIDIA A100 Tensor Core GPU datasheet, 40GB"),
    Gpu("A100-PCIE-40GB", 312e12, 1.555e12, "NVIDIA A100 Tensor Core GPU datasheet, 40GB"),
    Gpu("L40S", 362e12, 864e9, "NVIDIA L40S datasheet (733 with sparsity)"),
    Gpu("RTX 4090", 165.2e12, 1.008e12, "NVIDIA Ada GPU architecture whitepaper, appendix A"),
    Gpu("RTX 3090", 71e12, 936e9, "NVIDIA Ampere GA102 GPU architecture whitepaper, appendix A"),
)


def known(name: str) -> Gpu | None:
    """By what `torch.cuda.get_device_name` says; None of one that is not in the table."""
    return next((gpu for gpu in GPUS if gpu.name in name), None)
