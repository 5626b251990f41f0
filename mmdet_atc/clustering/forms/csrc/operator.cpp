// The operator of api.py for programs without Python, by torch's stable ABI; on the CPU.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>
#include <optional>
#include <string>

#include "checked.hpp"

namespace {

using torch::stable::Tensor;

// What is on the host is always checked: check_finite says nothing here.
Tensor Cluster(
    const Tensor& features, Index num_clusters, const std::string& linkage,
    const std::string& backend, std::optional<bool> /*check_finite*/) {
    const Shape shape(features.sizes());
    Require(backend == "auto" || backend == "cpu", "backend must be auto or cpu here, got ", backend);
    const Wanted wanted{num_clusters, LinkageOf(linkage), torch::stable::get_num_threads()};
    const Tensor values = torch::stable::contiguous(
        torch::stable::to(features, torch::headeronly::ScalarType::Double));
    const Tensor labels =
        torch::stable::new_empty(values, {shape.batch, shape.n}, torch::headeronly::ScalarType::Long);
    ClusterChecked(
        values.const_data_ptr<double>(), shape, std::numeric_limits<double>::max(), wanted,
        labels.mutable_data_ptr<Index>());
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
