// The operator of api.py for programs without Python, by torch's stable ABI; on the CPU.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <optional>
#include <string>

#include "linkage.cpp"

namespace {

using torch::stable::Tensor;

int Number(const std::string& linkage) {
    const std::string names[] = {"single", "complete", "average"};
    const auto found = std::find(std::begin(names), std::end(names), linkage);
    STD_TORCH_CHECK(
        found != std::end(names), "linkage must be single, complete or average, got ", linkage);
    return found - names;
}

// What is on the host is always checked: check_finite says nothing here.
Tensor Cluster(
    const Tensor& features, Index num_clusters, const std::string& linkage,
    const std::string& backend, std::optional<bool> /*check_finite*/) {
    STD_TORCH_CHECK(features.dim() == 3, "features must be (B, N, C), got ", features.dim(), " dims");
    const Index batch = features.size(0), n = features.size(1), channels = features.size(2);
    STD_TORCH_CHECK(n <= 32767, "features must be of at most 32767 tokens, got ", n);
    STD_TORCH_CHECK(
        1 <= num_clusters && num_clusters <= n, "num_clusters must be in 1..", n, ", got ",
        num_clusters);
    STD_TORCH_CHECK(
        backend == "auto" || backend == "cpu", "backend must be auto or cpu here, got ", backend);
    const Index threads = torch::stable::get_num_threads();
    const Wanted wanted{num_clusters, Number(linkage), threads};
    const Tensor values = torch::stable::contiguous(
        torch::stable::to(features, torch::headeronly::ScalarType::Double));
    const double* const x = values.const_data_ptr<double>();
    STD_TORCH_CHECK(
        std::all_of(x, x + values.numel(), [](double value) { return std::isfinite(value); }),
        "features must be finite, but they hold NaN or Inf");
    const Tensor labels =
        torch::stable::new_empty(values, {batch, n}, torch::headeronly::ScalarType::Long);
    const int failed = atc_cluster_features(
        x, batch, n, channels, &wanted, labels.mutable_data_ptr<Index>(), nullptr, nullptr);
    STD_TORCH_CHECK(!failed, "not enough memory to cluster ", n, " tokens");
    return labels;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(mmdet_atc, m) {
    m.def(
        "agglomerative_clustering(Tensor features, SymInt num_clusters, str linkage, str backend, "
        "bool? check_finite=None) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(mmdet_atc, CPU, m) {
    m.impl("agglomerative_clustering", TORCH_BOX(&Cluster));
}
